package capture

import (
	"context"
	"io"
	"time"
)

// folder gives the pictures below a folder in the order of their paths.
type folder struct {
	files []File
	next  int
	loop  bool
}

func openFolder(dir string, loop bool) (*folder, error) {
	files, err := FindFiles([]string{dir}, "")
	if err != nil {
		return nil, err
	}
	return &folder{files: files, loop: loop}, nil
}

// Grab implements [Source]. A file that cannot be read is passed over the next
// time.
func (f *folder) Grab(context.Context) (*Frame, error) {
	if f.next == len(f.files) && f.loop {
		f.next = 0
	}
	if f.next == len(f.files) {
		return nil, io.EOF
	}
	file := f.files[f.next]
	f.next++
	return ReadFrame(file.Path)
}

// Finished says that there are no more pictures.
func (f *folder) Finished() bool { return f.next == len(f.files) && !f.loop }

// Close implements [Source].
func (f *folder) Close() error { return nil }

// ReadFrame reads a frame from a picture file.
func ReadFrame(path string) (*Frame, error) {
	picture, err := ReadPicture(path, 0)
	if err != nil {
		return nil, err
	}
	return &Frame{Picture: picture, Captured: time.Now(), Name: path}, nil
}
