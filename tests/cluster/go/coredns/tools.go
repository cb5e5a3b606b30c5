//go:build tools

package testbed

import _ "github.com/coredns/coredns"
