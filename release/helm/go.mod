module saffire.fairwinds.com/release/helm

go 1.24.0

tool helm.sh/helm/v3/cmd/helm

require helm.sh/helm/v3 v3.22.0
