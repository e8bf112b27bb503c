# common.sh holds what the scripts in hack/ share; it is sourced, not run.

# Some build machines start jobs without HOME; Go's and our caches need one.
if [ -z "${HOME-}" ]; then
	HOME=$(getent passwd "$(id -u)" 2>/dev/null | cut -d: -f6)
	export HOME="${HOME:-/tmp}"
fi

export OSMITH_TOOLS="${OSMITH_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/osmith}"
tools=$OSMITH_TOOLS
roots=$tools/roots

say() { printf '  %s\n' "$*"; }
die() {
	printf '%s\n' "$*" >&2
	exit 1
}

# need_go ends the script when there is no Go; every other tool can be left out.
need_go() {
	command -v go >/dev/null 2>&1 || die "Go is missing: install Go 1.26 or newer from https://go.dev/dl/ and put it on PATH"
}
