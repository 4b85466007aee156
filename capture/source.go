package capture

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// Frame is a picture of a part.
type Frame struct {
	Picture *Picture
	// Captured is when the frame was there; it has a monotonic reading.
	Captured time.Time
	// Name is that of the file that it was read from or of a virtual part;
	// empty for a camera's.
	Name string
}

// Source is where frames come from. Grab is called from one goroutine at a
// time.
type Source interface {
	// Grab returns a frame that was taken after the call began, for the
	// sources of files the next one. After the last one it returns [io.EOF],
	// then and at every later call. The end of ctx ends the wait.
	Grab(ctx context.Context) (*Frame, error)

	// Close frees the source. It may be called twice.
	Close() error
}

// OpenSource opens a source by its address: v4l2:DEVICE, rtsp://ADDRESS,
// gstreamer:PIPELINE, video:FILE or folder:DIR, which may end in ?loop=true, or
// virtual:KIND with the options of [virtualline.NewBelt]. A live camera that is not there now is no error: it is opened
// when it comes, and until then Grab says what is wrong.
func OpenSource(address string) (Source, error) {
	kind, rest, _ := strings.Cut(address, ":")
	path, query, _ := strings.Cut(rest, "?")
	loop := query == "loop=true"
	switch kind {
	case "folder":
		return openFolder(path, loop)
	case "video":
		return openVideo(path, loop), nil
	case "virtual":
		return openVirtual(rest)
	case "v4l2", "gstreamer":
		return openLive(kind, rest, SourceName(address)), nil
	case "rtsp", "rtsps":
		return openLive(kind, address, SourceName(address)), nil
	}
	return nil, fmt.Errorf("camera %q: expected v4l2:DEVICE, rtsp://ADDRESS, gstreamer:PIPELINE, video:FILE, folder:DIR or virtual:KIND", address)
}

// IsLive says whether an address is that of a camera, not of files or of a virtual line.
func IsLive(address string) bool {
	kind, _, _ := strings.Cut(address, ":")
	return kind != "folder" && kind != "video" && kind != "virtual"
}

// SourceName is an address without the secrets that it may hold.
func SourceName(address string) string {
	kind, _, _ := strings.Cut(address, ":")
	switch kind {
	case "gstreamer": // a pipeline may hold one anywhere
		return "gstreamer pipeline"
	case "rtsp", "rtsps":
	default:
		return address
	}
	parsed, err := url.Parse(address)
	if err != nil {
		return kind + "://…"
	}
	parsed.User = nil
	parsed.RawQuery = ""
	return parsed.String()
}

// NoSource is the source of a station whose triggers bring their frames.
type NoSource struct{}

// Grab implements [Source].
func (NoSource) Grab(context.Context) (*Frame, error) {
	return nil, errors.New("the station inspects the files that come into its folder; it has no camera to trigger")
}

// Close implements [Source].
func (NoSource) Close() error { return nil }
