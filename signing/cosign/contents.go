package cosign

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/osmith-dev/osmith/internal/strictjson"
)

// A Content is a value that the predicate of an attestation must have: the builder, or the result
// of a test. Set either Values or Regexp. A predicate does not satisfy a Content if it lacks the
// value, if the value is an object, an array or null, or if the predicate has more than 65,536 JSON
// values.
type Content struct {
	// Pointer says where the value is: a JSON Pointer (RFC 6901), such as "/runDetails/builder/id".
	Pointer string

	// Values are the accepted values: for a string its text, for a number, true or false the text
	// in the document.
	Values []string

	// Regexp is a regular expression (of package regexp) that the whole value must match.
	Regexp string
}

// ErrOtherContent is the reason for a rejection: the predicate of the attestation lacks the content
// that the policy requires.
var ErrOtherContent = errors.New("the predicate does not match the policy")

// maxPointer bounds a JSON Pointer of a policy, in bytes.
const maxPointer = 1024

func (c *Content) String() string {
	if c.Regexp != "" {
		return c.Pointer + " /" + c.Regexp + "/"
	}
	return c.Pointer + " " + strings.Join(c.Values, "|")
}

// tokens are the names along the pointer (RFC 6901, sections 3 and 4).
func (c *Content) tokens() ([]string, error) {
	if !strings.HasPrefix(c.Pointer, "/") || len(c.Pointer) > maxPointer {
		return nil, fmt.Errorf("%q: want a JSON Pointer, such as /runDetails/builder/id", short(c.Pointer))
	}
	tokens := strings.Split(c.Pointer[1:], "/")
	for i, t := range tokens {
		if rest := strings.NewReplacer("~0", "", "~1", "").Replace(t); strings.Contains(rest, "~") {
			return nil, fmt.Errorf("%q: write ~ as ~0, and / in a name as ~1", c.Pointer)
		}
		tokens[i] = strings.NewReplacer("~1", "/", "~0", "~").Replace(t)
	}
	return tokens, nil
}

func (c *Content) check() error {
	if _, err := c.tokens(); err != nil {
		return err
	}
	if (len(c.Values) == 0) == (c.Regexp == "") {
		return fmt.Errorf("%s: want either values or a regular expression", c.Pointer)
	}
	if _, err := regexp.Compile(c.Regexp); err != nil {
		return fmt.Errorf("%s: %w", c.Pointer, err)
	}
	return nil
}

// holds looks for the value in a predicate. The error says what is there instead.
func (c *Content) holds(predicate json.RawMessage) error {
	text, err := c.find(predicate)
	if err != nil {
		return err
	}
	if c.Regexp == "" && slices.Contains(c.Values, text) {
		return nil
	}
	if c.Regexp != "" {
		if matches, err := matcher("", c.Regexp); err == nil && matches(text) {
			return nil
		}
	}
	return fmt.Errorf("%w: %s is %q", ErrOtherContent, c.Pointer, short(text))
}

func (c *Content) find(value json.RawMessage) (string, error) {
	tokens, err := c.tokens()
	if err != nil {
		return "", err
	}
	if err := fewValues("the predicate", value); err != nil {
		return "", fmt.Errorf("%w: %w", ErrOtherContent, err)
	}
	missing := fmt.Errorf("%w: no %s", ErrOtherContent, c.Pointer)
	for _, t := range tokens {
		if value, err = member(value, t); err != nil {
			return "", fmt.Errorf("%w: %s: %w", ErrOtherContent, c.Pointer, err)
		}
		if value == nil {
			return "", missing
		}
	}
	switch v := strings.TrimSpace(string(value)); {
	case v == "null", strings.HasPrefix(v, "{"), strings.HasPrefix(v, "["):
		return "", missing
	case strings.HasPrefix(v, `"`):
		var text string
		if err := strictjson.Unmarshal(value, &text); err != nil {
			return "", fmt.Errorf("%w: %s: %w", ErrOtherContent, c.Pointer, err)
		}
		return text, nil
	default:
		return v, nil
	}
}

// member is the value of a member of an object or an element of an array; nil if there is none.
func member(value json.RawMessage, name string) (json.RawMessage, error) {
	text := strings.TrimLeft(string(value[:min(len(value), 64)]), " \t\r\n")
	var members []strictjson.Member
	var err error
	switch {
	case strings.HasPrefix(text, "{"):
		members, err = strictjson.Object(value)
	case strings.HasPrefix(text, "["):
		if members, err = strictjson.Array(value); err != nil {
			return nil, err
		}
		// An index has no leading zero (RFC 6901, section 4).
		if i, err := strconv.Atoi(name); err == nil && strconv.Itoa(i) == name && i >= 0 && i < len(members) {
			return members[i].Value, nil
		}
		return nil, nil
	default:
		return nil, nil
	}
	for _, m := range members {
		if m.Key == name {
			return m.Value, nil
		}
	}
	return nil, err
}

// referenced reports whether a signature is for one of the names that the policy demands.
func (p *Policy) referenced(c *claim) error {
	if len(p.References) == 0 || c.predicateType != "" {
		return nil
	}
	if c.reference == "" {
		return fmt.Errorf("%w: no docker-reference", ErrOtherReference)
	}
	if !slices.ContainsFunc(p.References, func(pattern string) bool { return matchRepository(pattern, c.reference) }) {
		return fmt.Errorf("%w: signed for %q", ErrOtherReference, short(c.reference))
	}
	return nil
}
