package mixed

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/google/renameio/v2"
	"google.golang.org/protobuf/encoding/protowire"

	"gladd/internal/onnx"
)

// alignment of tensors in a weights file, in bytes: readers that map the file
// find each at the start of a cache line.
const alignment = 64

// weightsFile is what is written beside a graph.
type weightsFile struct {
	name    string
	size    int64
	tensors []placed
}

type placed struct {
	tensor *tensor
	half   bool // convert it
	offset int64
}

// ConvertFile converts the graph in a file, together with weights in files
// beside it, and writes it to another. Weights that were in other files go to
// one file beside the new graph, named as the graph with ".weights" after it.
// They are read and written in small parts.
//
// Each file is there whole or not at all, the graph last: where it is, its
// weights are. Errors name the file; besides those of [Convert] they come from
// reading and writing, and from weights that are missing or too short.
func ConvertFile(from, to string, options Options) (Report, error) {
	report, err := convertFile(from, to, options)
	if err != nil {
		return Report{}, fmt.Errorf("%s: converting to FP16: %w", from, err)
	}
	return report, nil
}

func convertFile(from, to string, options Options) (Report, error) {
	model, err := readGraph(from, to)
	if err != nil {
		return Report{}, err
	}
	fields, graph, err := parseModel(model)
	if err != nil {
		return Report{}, fmt.Errorf("not an ONNX file: %w", err)
	}
	weights := to + ".weights"
	closeAll, err := openExternal(filepath.Dir(from), weights, graph.initializers)
	defer closeAll()
	if err != nil {
		return Report{}, err
	}
	c := &converter{options: options, graph: graph, outside: &weightsFile{name: filepath.Base(weights)}}
	converted, err := c.convert(fields)
	if err != nil {
		return Report{}, err
	}
	if err := c.writeFiles(to, converted); err != nil {
		return Report{}, err
	}
	return c.report, nil
}

// readGraph reads a graph's file, which must not be the one to write.
func readGraph(from, to string) ([]byte, error) {
	info, err := os.Stat(from)
	if err != nil {
		return nil, withoutPath(err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("expected a file, found one of mode %s", info.Mode())
	}
	if old, err := os.Stat(to); err == nil && os.SameFile(info, old) {
		return nil, errors.New("expected another file to write to, found the same")
	}
	if info.Size() > largestModel {
		return nil, fmt.Errorf("expected an ONNX file of at most %d bytes, found %d", largestModel, info.Size())
	}
	model, err := os.ReadFile(from)
	return model, withoutPath(err)
}

// openExternal opens the files beside a graph, each once, and checks that they
// hold what the graph takes from them, and that none is the one to write.
func openExternal(dir, target string, tensors []*tensor) (closeAll func(), err error) {
	opened := map[string]*os.File{}
	old, _ := os.Stat(target) // one that is not there is none of them
	closeAll = func() {
		for _, file := range opened {
			file.Close()
		}
	}
	for _, t := range tensors {
		if t.external == nil {
			continue
		}
		at := t.external
		if !filepath.IsLocal(at.file) {
			return closeAll, fmt.Errorf("tensor %q: expected weights in a file beside the graph, found %q", t.name, at.file)
		}
		path := filepath.Join(dir, at.file)
		file := opened[path]
		if file == nil {
			if file, err = os.Open(path); err != nil {
				return closeAll, fmt.Errorf("tensor %q: %w", t.name, err)
			}
			opened[path] = file
		}
		info, err := file.Stat()
		if err != nil {
			return closeAll, err
		}
		if !info.Mode().IsRegular() {
			return closeAll, fmt.Errorf("tensor %q: %s: expected a file, found one of mode %s", t.name, path, info.Mode())
		}
		if old != nil && os.SameFile(info, old) {
			return closeAll, fmt.Errorf("tensor %q: its weights are in %s, which would be written over; expected another name for the new graph", t.name, target)
		}
		if at.length == 0 && !at.measured {
			at.length = max(0, info.Size()-at.offset)
		}
		if at.offset > info.Size() || at.length > info.Size()-at.offset {
			return closeAll, fmt.Errorf("tensor %q: expected %d bytes at %d in %s, found a file of %d bytes; it is cut off or of another graph",
				t.name, at.length, at.offset, path, info.Size())
		}
		at.open = file
	}
	return closeAll, nil
}

// place gives a tensor a place in the file beside the new graph and returns the
// tensor that says where.
func (c *converter) place(t *tensor, name string, half bool) []byte {
	size, kind := t.size(), t.kind
	if half {
		size, kind = size/2, float16s
	}
	file := c.outside
	offset := (file.size + alignment - 1) / alignment * alignment
	file.tensors = append(file.tensors, placed{tensor: t, half: half, offset: offset})
	file.size = offset + size
	c.report.WeightsFile = file.name

	message := t.header(name, kind)
	for _, entry := range [][2]string{
		{"location", file.name},
		{"offset", strconv.FormatInt(offset, 10)},
		{"length", strconv.FormatInt(size, 10)},
	} {
		message = onnx.AppendMessage(message, onnx.TensorExternal, onnx.AppendText(onnx.AppendText(nil, onnx.EntryKey, entry[0]), onnx.EntryValue, entry[1]))
	}
	message = protowire.AppendTag(message, onnx.TensorLocation, protowire.VarintType)
	return protowire.AppendVarint(message, 1) // TensorProto.DataLocation.EXTERNAL
}

// write writes the tensors to their places.
func (f *weightsFile) write(to io.Writer) error {
	written := int64(0)
	for _, p := range f.tensors {
		if _, err := to.Write(make([]byte, p.offset-written)); err != nil {
			return err
		}
		size, err := p.write(to)
		if err != nil {
			return fmt.Errorf("tensor %q: %w", p.tensor.name, err)
		}
		written = p.offset + size
	}
	return nil
}

// write writes a tensor's values and returns how many bytes they take.
func (p placed) write(to io.Writer) (int64, error) {
	size := p.tensor.size()
	if p.half {
		return size / 2, writeHalf(to, p.tensor.values(), size)
	}
	return io.CopyN(to, p.tensor.values(), size)
}

// writeFiles writes the weights, if there are any, and the graph.
func (c *converter) writeFiles(to string, converted piece) error {
	graph, err := pending(to, converted.write)
	if err != nil {
		return err
	}
	defer graph.Cleanup() //nolint:errcheck // it does nothing once the file is in its place
	if len(c.outside.tensors) > 0 {
		weights, err := pending(filepath.Join(filepath.Dir(to), c.outside.name), c.outside.write)
		if err != nil {
			return err
		}
		defer weights.Cleanup() //nolint:errcheck // as above
		// An old graph must not stand beside new weights.
		if err := os.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := weights.CloseAtomicallyReplace(); err != nil {
			return err
		}
	}
	return graph.CloseAtomicallyReplace()
}

// pending writes a file that has no name yet.
func pending(path string, write func(io.Writer) error) (*renameio.PendingFile, error) {
	file, err := renameio.NewPendingFile(path, renameio.WithPermissions(0o644))
	if err != nil {
		return nil, err
	}
	buffered := bufio.NewWriterSize(file, chunk)
	if err := errors.Join(write(buffered), buffered.Flush()); err != nil {
		return nil, errors.Join(fmt.Errorf("writing %s: %w", path, err), file.Cleanup())
	}
	return file, nil
}

// withoutPath drops the path that an error of package os repeats.
func withoutPath(err error) error {
	if pathError := (*fs.PathError)(nil); errors.As(err, &pathError) {
		return pathError.Err
	}
	return err
}
