package tensorrt

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"gladd/engines"
	"gladd/engines/mixed"
)

// energyOutput is an output that the decoder's engine has beside the picture: the
// mean of its squares. Decoded pictures stay on the GPU, where nobody looks at
// them, and a map may lose a NaN that was in one; a mean of squares keeps it, and
// an infinity too.
const energyOutput = "gladd_energy"

// energyVersion changes when the output is computed otherwise.
const energyVersion = 1

// convert returns a network's graph as TensorRT gets it: in memory, or as a file
// where its weights are in other files. remove deletes what was written.
func (b *Backend) convert(bundle *engines.Bundle, name engines.GraphName) (graph []byte, path string, remove func(), err error) {
	remove = func() {}
	if graph, err = bundle.ReadGraph(name); err != nil {
		return nil, "", remove, err
	}
	if name == engines.VAEDecoder {
		if graph, err = mixed.WithMeanSquare(graph, "image", energyOutput); err != nil {
			return nil, "", remove, err
		}
	}
	if bundle.HasExternalData(name) {
		// A plan of weights that changed since the bundle was loaded would be kept.
		if err := bundle.Verify(name); err != nil {
			return nil, "", remove, err
		}
		path, remove, err = b.convertFile(bundle, name, graph)
		return nil, path, remove, err
	}
	if !b.halves() {
		return graph, "", remove, nil
	}
	graph, report, err := mixed.Convert(graph, mixed.Options{})
	b.log.Debug("graph converted to FP16", "network", string(name), "report", fmt.Sprint(report))
	return graph, "", remove, err
}

// convertFile does so in a folder beside the cache's files: weights of gigabytes do
// not go to the system's folder for temporary files, which may be memory.
func (b *Backend) convertFile(bundle *engines.Bundle, name engines.GraphName, graph []byte) (path string, remove func(), err error) {
	dir, err := os.MkdirTemp(b.cache.Dir(), "convert-"+string(name)+".*"+partSuffix)
	if err != nil {
		return "", func() {}, &CacheError{err}
	}
	remove = func() {
		if err := os.RemoveAll(dir); err != nil {
			b.log.Warn("engine cache: a converted graph is left behind; gladd engines prune removes it", "error", err)
		}
	}
	path = filepath.Join(dir, "graph.onnx")
	err = os.WriteFile(path, graph, 0o600)
	for _, external := range bundle.ExternalData(name) {
		target, absErr := filepath.Abs(external)
		linked := filepath.Join(dir, filepath.Base(external))
		err = errors.Join(err, absErr, os.Symlink(target, linked))
	}
	if err != nil || !b.halves() {
		return path, remove, err
	}
	converted := filepath.Join(dir, "half.onnx")
	_, err = mixed.ConvertFile(path, converted, mixed.Options{})
	return converted, remove, err
}
