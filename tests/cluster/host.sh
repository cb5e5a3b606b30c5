#!/usr/bin/env bash
# Debian packages that the embedded cluster and the image builds need, and those named as arguments; quick when they
# are all there.
set -euo pipefail

packages=(
  containerd runc containernetworking-plugins        # pods
  iptables conntrack iproute2 util-linux procps      # their network and namespaces
  mmdebstrap debian-archive-keyring buildah skopeo   # images
  openssl ca-certificates                            # certificates
  haproxy                                            # unit tests of the balancer run a real one
  redis-server                                       # unit tests of the shared cache run a real one
  "$@"
)

# Image builds use the sources that apt has here, so it must have fetched their lists.
sources_known() { apt-get indextargets --format '$(ORIGIN)' 'Created-By: Packages' | grep -x Debian >/dev/null; }

missing=()
for package in "${packages[@]}"; do
  dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null | grep -x installed >/dev/null || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ] && sources_known; then exit 0; fi

command -v apt-get >/dev/null || { echo "missing: ${missing[*]} (and no apt-get to install them with)" >&2; exit 1; }
if [ "$(id -u)" -ne 0 ]; then
  echo "missing: ${missing[*]:-package lists}; install them as root (sudo $0)" >&2
  exit 1
fi
echo "apt: installing ${missing[*]:-package lists}" >&2
export DEBIAN_FRONTEND=noninteractive
# No service may start by itself: the clusters run their own containerd.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
  trap 'rm -f "$policy"' EXIT
fi
apt-get update -qq
if [ ${#missing[@]} -gt 0 ]; then
  apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
