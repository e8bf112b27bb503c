package slots

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// scripted is a store that starts the slots of a text, one after the other, and nothing behind
// them.
type scripted string

func (s scripted) Properties() Properties { return Properties{Name: "scripted", MaxTries: 3} }
func (s scripted) Slots() []Slot          { return []Slot{{Name: "A"}, {Name: "B"}} }

func (s scripted) Boot() (Start, Reader) {
	first, rest, _ := strings.Cut(string(s), " ")
	switch first {
	case "":
		return Start{Outcome: OutcomeNothing}, nil
	case "?":
		return Start{}, nil
	case "other":
		return Start{Outcome: OutcomeOther}, scripted(rest)
	case "last":
		return Start{Outcome: OutcomeSlot, Slot: rest}, nil
	}
	return Start{Outcome: OutcomeSlot, Slot: first}, scripted(rest)
}

func (s scripted) Mark(Mark) (*Change, error) { return nil, nil }

// A change that does not lead to what the mark is for is refused, whatever the store has made of
// it.
func TestJudgesChanges(t *testing.T) {
	try, good := Mark{Slot: "B", As: AsTrying, Tries: 2, Fallback: "A"}, Mark{Slot: "B", As: AsGood}
	cancel, bad := Mark{Slot: "B", As: AsCancelled, Fallback: "A"}, Mark{Slot: "B", As: AsBad, Fallback: "A"}
	for _, c := range []struct {
		mark   Mark
		starts scripted
		want   error
	}{
		{try, "B B A", nil}, {try, "B B A B", nil},
		{try, "A", ErrNotChosen}, {try, "", ErrNotChosen}, {try, "?", ErrNotChosen}, {try, "other", ErrNotChosen},
		{try, "B A A", ErrNotChosen}, {try, "B ?", ErrNotChosen}, {try, "last B", ErrNotChosen},
		{try, "B B B A", ErrNoFallback}, {try, "B B", ErrNoFallback}, {try, "B B ?", ErrNoFallback}, {try, "B B other", ErrNoFallback}, {try, "B last B", ErrNoFallback},
		{good, "B", nil}, {good, "B A", nil}, {good, "A B", ErrNotChosen}, {good, "?", ErrNotChosen}, {good, "", ErrNotChosen},
		{cancel, "A", nil}, {cancel, "A B", nil}, {cancel, "B A", ErrNoFallback}, {cancel, "?", ErrNoFallback},
		{bad, "A", nil}, {bad, "B A", ErrNoFallback}, {bad, "", ErrNoFallback}, {bad, "other A", ErrNoFallback},
	} {
		change, err := c.mark.done(&Change{After: c.starts})
		require.ErrorIs(t, err, c.want, "%v: %q", c.mark.As, c.starts)
		require.Equal(t, c.want == nil, err == nil)
		require.Equal(t, err == nil, change != nil)
	}
}

func TestPredictEnds(t *testing.T) {
	for starts, want := range map[scripted]Answer{"B A": AnswerYes, "B": AnswerNo, "B ?": AnswerUnknown, "B other": AnswerUnknown, "last B": AnswerUnknown, "?": AnswerUnknown} {
		chain := Predict(starts)
		require.Equal(t, want, chain.Reaches("A"), "%q", starts)
		require.Equal(t, -1, chain.Loop)
	}
	long := Predict(scripted(strings.Repeat("B ", MaxStarts) + "A"))
	require.Len(t, long.Starts, MaxStarts)
	require.Equal(t, AnswerUnknown, long.Reaches("A"))
}
