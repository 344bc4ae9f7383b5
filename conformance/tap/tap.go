
// Package tap is a small stand-in for github.com/mndrix/tap-go, which Debian
// does not package. It has just the calls that the OCI runtime-tools
// conformance programs make, and writes the same TAP version 13.
package tap

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
)

// T numbers the checks of one program and writes them.
type T struct {
	count  *int
	TODO   bool
	Writer io.Writer
}

// New returns a T whose first check is number 1.
func New() *T { return &T{count: new(int)} }

func (t *T) write(s string) {
	w := t.Writer
	if w == nil {
		w = os.Stdout
	}
	_, _ = io.WriteString(w, s)
}

// Header writes the version line and, for n > 0, the plan.
func (t *T) Header(n int) {
	t.write("TAP version 13\n")
	if n > 0 {
		t.write(fmt.Sprintf("1..%d\n", n))
	}
}

// Ok writes one check.
func (t *T) Ok(pass bool, what string) {
	*t.count++
	word, mark := "ok", "-"
	if !pass {
		word = "not ok"
	}
	if t.TODO {
		mark = "# TODO"
	}
	t.write(fmt.Sprintf("%s %d %s %s\n", word, *t.count, mark, what))
}

// Pass and Fail write a check whose outcome is known.
func (t *T) Pass(what string) { t.Ok(true, what) }
func (t *T) Fail(what string) { t.Ok(false, what) }

// Skip writes n skipped checks.
func (t *T) Skip(n int, why string) {
	for ; n > 0; n-- {
		*t.count++
		t.write(fmt.Sprintf("ok %d # SKIP %s\n", *t.count, why))
	}
}

// Todo returns a T that marks its checks TODO and shares the numbering.
func (t *T) Todo() *T {
	c := *t
	c.TODO = true
	return &c
}

// Count is the number of checks written so far.
func (t *T) Count() int { return *t.count }

// AutoPlan writes the plan after the fact.
func (t *T) AutoPlan() { t.write(fmt.Sprintf("1..%d\n", *t.count)) }

// Diagnostic writes a comment.
func (t *T) Diagnostic(s string) {
	t.write("# " + strings.ReplaceAll(strings.TrimRight(s, "\n"), "\n", "\n# ") + "\n")
}

// Diagnosticf is Diagnostic with a format.
func (t *T) Diagnosticf(f string, a ...interface{}) { t.Diagnostic(fmt.Sprintf(f, a...)) }

// YAML writes v as an indented JSON block, which is YAML too.
func (t *T) YAML(v interface{}) error {
	b, err := json.MarshalIndent(v, "  ", "  ")
	if err != nil {
		return err
	}
	t.write("  ---\n  " + string(b) + "\n  ...\n")
	return nil
}
