//go:build tools

package testbed

import _ "helm.sh/helm/v3/cmd/helm"
