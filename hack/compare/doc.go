// Package compare measures osmith against the tools whose work it does. Every
// figure is a ratio of two medians of one run on one machine; no test depends
// on a time. hack/bench runs it and prints the table.
package compare
