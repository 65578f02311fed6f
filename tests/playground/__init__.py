"""The playground does what it says: recorded bytes, a kubelet's words."""
