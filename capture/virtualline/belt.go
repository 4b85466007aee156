package virtualline

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// Belt is a virtual line that runs: parts one after the other, some of them
// defective.
type Belt struct {
	line      *Line
	defective int64 // in a hundred
	count     int   // 0: without end
	next      int
}

// NewBelt makes a belt from its address, the rest of virtual:KIND, with any of
// ?seed=1&size=256&defective=20&count=0: the seed, the pictures' side in
// pixels, defective parts in a hundred, and the number of parts, 0 without
// end.
func NewBelt(address string) (*Belt, error) {
	kind, query, _ := strings.Cut(address, "?")
	values, err := url.ParseQuery(query)
	if err != nil {
		return nil, fmt.Errorf("virtual line: expected KEY=NUMBER after ?, with & between, found %q", query)
	}
	numbers := map[string]uint64{"seed": 1, "size": 256, "defective": 20, "count": 0}
	known := []string{"seed", "size", "defective", "count"}
	limits := map[string]uint64{"seed": 1<<64 - 1, "size": MaxSize, "defective": 100, "count": 1 << 30}
	for _, key := range known {
		given := values[key]
		values.Del(key)
		if len(given) == 0 {
			continue
		}
		number, err := strconv.ParseUint(given[0], 10, 64)
		if err != nil || len(given) > 1 || number > limits[key] {
			return nil, fmt.Errorf("virtual line: %s: expected one whole number from 0 to %d, found %q", key, limits[key], strings.Join(given, ", "))
		}
		numbers[key] = number
	}
	if len(values) > 0 {
		return nil, fmt.Errorf("virtual line: expected %s, found %q", strings.Join(known, ", "), values.Encode())
	}
	line, err := New(Kind(kind), numbers["seed"], int(numbers["size"]))
	if err != nil {
		return nil, fmt.Errorf("virtual line: %w", err)
	}
	return &Belt{line: line, defective: int64(numbers["defective"]), count: int(numbers["count"])}, nil
}

// Finished says that all parts were given.
func (b *Belt) Finished() bool { return b.count > 0 && b.next == b.count }

// Next gives the next part and its name, which tells its defect; nil after the
// last one.
func (b *Belt) Next() (name string, part *Part) {
	if b.Finished() {
		return "", nil
	}
	number := b.next
	b.next++
	name = fmt.Sprintf("%s-%06d-", b.line.kind, number)
	random := newStream(b.line.seed, b.line.kind, "belt", number)
	if random.between(0, 99) >= b.defective {
		return name + "good", b.line.Good("belt", number)
	}
	defect, severity := choose(random, b.line.kind.Defects()...), choose(random, Severities...)
	return name + string(defect) + "-" + string(severity), b.line.Defective("belt", number, defect, severity)
}
