"""AlternateImageSource and ClusterAlternateImageSource: parsed, stored, and which of them apply to a namespace."""
