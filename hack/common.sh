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
	# A checkout that belongs to another user is no reason for a build to fail.
	export GOFLAGS="${GOFLAGS:+$GOFLAGS }-buildvcs=false"
}

# The two Go releases that are supported, in their newest versions: that of the go line in go.mod,
# and the next one. CONTRIBUTING.md has the rule. A new version of either is changed here and
# nowhere else.
go_releases="go1.26.11 go1.27.4"

# other_go prints the supported release that the Go on PATH is not.
other_go() {
	here=$(go env GOVERSION)
	for release in $go_releases; do
		case $here. in
		"${release%.*}".*) ;;
		*) other=$release ;;
		esac
	done
	printf '%s\n' "$other"
}

# modules prints the directory of every module but the one of the tools.
modules() {
	find . -name go.mod -not -path '*/testdata/*' -not -path './hack/tools/*' | sed 's,/go.mod$,,' | sort
}

# A script with steps calls begin_steps, then for each one step NAME and testrun
# commands, then end_steps. Results are counted by hack/testrun.
begin_steps() {
	work=$(mktemp -d "${TMPDIR:-/tmp}/osmith-steps.XXXXXX") || exit 1
	trap 'rm -rf "$work"' EXIT
	trap 'exit 130' INT TERM
	export OSMITH_STEPS="$work/results" OSMITH_STEP=
	: >"$work/times"
	go build -o "$work/testrun" ./hack/testrun || exit 1
}
testrun() { "$work/testrun" "$@"; }

step() {
	step_done
	OSMITH_STEP=$1
	step_start=$(date +%s)
	printf '\n== %s\n' "$1"
}
step_done() {
	[ -z "$OSMITH_STEP" ] || printf '  %5d s  %s\n' $(($(date +%s) - step_start)) "$OSMITH_STEP" >>"$work/times"
}

# end_steps prints the summary and ends the script: 0 when nothing failed.
end_steps() {
	step_done
	printf '\n== summary\n'
	cat "$work/times"
	testrun summary
	exit $?
}

# lint_step is a step of hack/test and all of hack/lint.
lint_step() {
	step lint
	for module in $(modules) hack/tools; do
		(cd "$module" && testrun check "go mod tidy $module" -- env GOWORK=off go mod tidy -diff)
	done
	lint
}
formatted() {
	testrun check gofmt -- sh -c 'bad=$(gofmt -l .); [ -z "$bad" ] || { echo "not formatted: $bad"; exit 1; }'
}
vetted() { testrun check "go vet $module" -- env GOWORK=off go vet ./...; }
lint() {
	formatted
	# Built outside the checkout; Go's build cache makes it a matter of a second.
	(cd hack/tools && testrun check "build staticcheck" -- env GOWORK=off \
		go build -o "$work/staticcheck" honnef.co/go/tools/cmd/staticcheck) || return
	for module in $(modules); do
		(cd "$module" && vetted)
		(cd "$module" && testrun check "staticcheck $module" -- "$work/staticcheck" ./...)
	done
}
