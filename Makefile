# A thin front for the scripts in hack/, which need no make.
.PHONY: demo test test-long bench lint govulncheck

demo:
	./hack/demo

test:
	./hack/test

test-long:
	./hack/test -long

bench:
	./hack/bench

lint:
	./hack/lint

# Apart from test, since its database is online.
govulncheck:
	./hack/govulncheck
