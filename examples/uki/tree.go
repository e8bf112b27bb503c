package main

import (
	"fmt"
	"strings"
	"unicode"
)

// A node is a line of a tree, with what belongs to it below.
type node struct {
	text     string
	children []*node
}

// add puts a line below and returns it.
func (n *node) add(format string, args ...any) *node {
	child := &node{text: fmt.Sprintf(format, args...)}
	n.children = append(n.children, child)
	return child
}

// lines puts the lines of a text below.
func (n *node) lines(text string) {
	for _, line := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
		n.add("%s", line)
	}
}

func (n *node) String() string {
	var b strings.Builder
	n.write(&b, "", "")
	return b.String()
}

func (n *node) write(b *strings.Builder, first, rest string) {
	fmt.Fprintf(b, "%s%s\n", first, strings.TrimRight(printable(n.text), " "))
	for i, child := range n.children {
		if i == len(n.children)-1 {
			child.write(b, rest+"└─ ", rest+"   ")
		} else {
			child.write(b, rest+"├─ ", rest+"│  ")
		}
	}
}

// printable keeps what a stranger put into an image from controlling the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case !unicode.IsPrint(r):
			return unicode.ReplacementChar
		}
		return r
	}, s)
}
