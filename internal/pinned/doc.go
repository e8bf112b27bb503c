// Package pinned reads sources of which the first reading counts: what was judged is what is
// written later, and nothing has to be read in full a second time, or kept, to know that.
package pinned
