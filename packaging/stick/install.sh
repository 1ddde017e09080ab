#!/bin/sh
# Installs the Inference Appliance on Debian 12 from this folder, without a network: sh install.sh
#
#   --check   only compares every file with SHA256SUMS; needs no root
#
# apt takes what this machine lacks from the folder itself, and asks nobody else. Run again, it upgrades.
set -eu
cd "$(dirname "$0")"
here=$(pwd)

say() { printf '%s\n' "install.sh: $*" >&2; }
die() { say "$*"; exit 1; }

case "${1:-}" in
"" | --check) ;;
*) sed -n '2,6s/^# \{0,1\}//p' install.sh; exit 2 ;;
esac

# A stick that was pulled out too early, or changed. Nothing is installed from it.
[ -f SHA256SUMS ] || die "SHA256SUMS is missing: copy the whole folder again"
sha256sum --check --strict --quiet SHA256SUMS || die "files are damaged or missing (above): copy the folder again"
say "all files are as they were made"
[ "${1:-}" != --check ] || exit 0

[ "$(id -u)" = 0 ] || die "only root can install: sudo sh $here/install.sh"
command -v apt-get >/dev/null || die "this machine has no apt-get: the packages are for Debian 12"
release=$(. /etc/os-release && echo "${ID:-}-${VERSION_ID:-}")
[ "$release" = debian-12 ] || die "this machine is $release: the packages are for Debian 12"
ours=$(cat debs/architecture)
[ "$(dpkg --print-architecture)" = "$ours" ] || die "this machine is $(dpkg --print-architecture): the packages are for $ours"

# A package list of its own, so that the machine's own sources and lists stay as they are. Trusted, because the sums above
# are right; file: and not copy:, because nothing needs to be copied. In a path without blanks, which sources.list needs.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
ln -s "$here/debs" "$work/debs"
mkdir -p "$work/lists/partial" "$work/archives/partial"
echo "deb [trusted=yes] file:$work/debs ./" >"$work/sources.list"
apt() {
  apt-get -o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts=- -o Dir::State::Lists="$work/lists" \
    -o Dir::Cache::Archives="$work/archives" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= \
    -o APT::Sandbox::User=root -o Acquire::Languages=none -q "$@"
}
apt update >"$work/log" 2>&1 || { cat "$work/log" >&2; die "apt cannot read $here/debs"; }
# A configuration that was changed here is kept; no question is asked.
DEBIAN_FRONTEND=noninteractive apt install -y --no-install-recommends -o Dpkg::Options::=--force-confold \
  -o Dpkg::Options::=--force-confdef inference-appliance

say "installed; now: appliance setup, then appliance doctor (README.txt has the demo models)"
