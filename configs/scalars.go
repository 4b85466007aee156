package configs

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"time"

	"gopkg.in/yaml.v3"
)

// Duration is written as in Go: 2s, 1m30s, 2160h.
type Duration time.Duration

// UnmarshalYAML implements [yaml.Unmarshaler].
func (d *Duration) UnmarshalYAML(node *yaml.Node) error {
	parsed, err := time.ParseDuration(node.Value)
	if err != nil || node.Kind != yaml.ScalarNode {
		return refuse(node, "a duration such as 2s or 1m30s")
	}
	*d = Duration(parsed)
	return nil
}

// Bytes is a size, written as a whole number with B, KiB, MiB, GiB or TiB.
type Bytes int64

var size = regexp.MustCompile(`^([0-9]+) ?(B|KiB|MiB|GiB|TiB)$`)

// UnmarshalYAML implements [yaml.Unmarshaler].
func (b *Bytes) UnmarshalYAML(node *yaml.Node) error {
	const expected = "a size such as 500MiB or 10GiB"
	match := size.FindStringSubmatch(node.Value)
	if match == nil {
		return refuse(node, expected)
	}
	unit := map[string]int64{"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}[match[2]]
	number, err := strconv.ParseInt(match[1], 10, 64)
	if err != nil || number > math.MaxInt64/unit {
		return refuse(node, expected)
	}
	*b = Bytes(number * unit)
	return nil
}

// refuse reports a scalar of the wrong form; yaml collects such errors with
// those of other keys.
func refuse(node *yaml.Node, expected string) error {
	found := node.Value
	switch node.Kind {
	case yaml.SequenceNode:
		found = "a list"
	case yaml.MappingNode:
		found = "a mapping"
	}
	return &yaml.TypeError{Errors: []string{fmt.Sprintf("line %d: expected %s, found %s", node.Line, expected, found)}}
}
