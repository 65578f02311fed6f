"""What figures are measured with: environments, baselines, fixtures, raw HTTP, memory."""
