"""What Knative's ApiServerSource and PingSource send: the same bytes, the same retries, the same losses."""
