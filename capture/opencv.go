package capture

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"gocv.io/x/gocv"
)

// openCV is a source that OpenCV reads. One goroutine makes all calls into
// OpenCV, so that a call that hangs there holds up nobody's deadline.
type openCV struct {
	name string
	open func() (*gocv.VideoCapture, error)
	// live sources are read all the time, so that their buffers hold no old
	// frames; others when a frame is wanted.
	live bool
	loop bool

	finished atomic.Bool // a file has no more frames

	mutex   sync.Mutex
	waiting []*grab
	state   error         // of a live source: why there are no frames; nil: there are
	wanted  chan struct{} // holds one token while somebody waits
	closing chan struct{}
	close   func()
	ended   chan struct{}
}

// grab is one call of Grab.
type grab struct {
	since  time.Time
	result chan grabbed
}

type grabbed struct {
	frame *Frame
	err   error
}

// Waits between attempts to open a live source.
const (
	firstRetry = 250 * time.Millisecond
	lastRetry  = 5 * time.Second
)

// closeTimeout is how long Close waits for a call into OpenCV.
const closeTimeout = 2 * time.Second

var errNotOpen = errors.New("not opened yet")

func openLive(kind, address, name string) *openCV {
	api := map[string]gocv.VideoCaptureAPI{
		"v4l2": gocv.VideoCaptureV4L2, "rtsp": gocv.VideoCaptureFFmpeg, "rtsps": gocv.VideoCaptureFFmpeg, "gstreamer": gocv.VideoCaptureGstreamer,
	}[kind]
	return startOpenCV(&openCV{
		name: name,
		live: true,
		open: func() (*gocv.VideoCapture, error) {
			opened := address
			if kind == "v4l2" {
				// OpenCV wants the device itself, not its stable name.
				device, err := filepath.EvalSymlinks(address)
				if err != nil {
					return nil, errors.Unwrap(err) // the name stands before it
				}
				opened = device
			}
			device, err := gocv.OpenVideoCaptureWithAPI(opened, api)
			if err != nil {
				// OpenCV's text repeats the address with the password in it.
				return nil, errors.New("no answer; is the address right, and the camera on?")
			}
			return device, nil
		},
	})
}

func openVideo(path string, loop bool) *openCV {
	return startOpenCV(&openCV{
		name: path,
		loop: loop,
		open: func() (*gocv.VideoCapture, error) { return gocv.OpenVideoCaptureWithAPI(path, gocv.VideoCaptureAny) },
	})
}

func startOpenCV(source *openCV) *openCV {
	silenceOpenCV()
	source.wanted = make(chan struct{}, 1)
	source.closing = make(chan struct{})
	source.close = sync.OnceFunc(func() { close(source.closing) })
	source.ended = make(chan struct{})
	source.state = errNotOpen
	go func() {
		defer close(source.ended)
		if source.live {
			source.readLive()
		} else {
			source.readFile()
		}
		source.deliver(time.Now(), grabbed{err: errors.New("the source was closed")})
	}()
	return source
}

// Grab implements [Source].
func (s *openCV) Grab(ctx context.Context) (*Frame, error) {
	request := &grab{since: time.Now(), result: make(chan grabbed, 1)}
	s.mutex.Lock()
	s.waiting = append(s.waiting, request)
	s.mutex.Unlock()
	select {
	case s.wanted <- struct{}{}:
	default:
	}
	select {
	case result := <-request.result:
		return result.frame, result.err
	case <-s.ended:
		return nil, fmt.Errorf("camera %s: the source was closed", s.name)
	case <-ctx.Done():
		s.forget(request)
		return nil, fmt.Errorf("camera %s: no frame came in time: %w", s.name, ctx.Err())
	}
}

// forget takes a request back that nobody waits for any more.
func (s *openCV) forget(request *grab) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.waiting = slices.DeleteFunc(s.waiting, func(other *grab) bool { return other == request })
}

// Alive says why a live source gives no frames; nil: it does.
func (s *openCV) Alive() error {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if !s.live || s.state == nil {
		return nil
	}
	return fmt.Errorf("camera %s: %w", s.name, s.state)
}

func (s *openCV) setState(state error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.state = state
}

// Close implements [Source]. A call that hangs in OpenCV is left behind.
func (s *openCV) Close() error {
	s.close()
	select {
	case <-s.ended:
		return nil
	case <-time.After(closeTimeout):
		return fmt.Errorf("camera %s: OpenCV does not return; it was left behind", s.name)
	}
}

func (s *openCV) isClosing() bool {
	select {
	case <-s.closing:
		return true
	default:
		return false
	}
}

// deliver gives a result to everyone who asked before a time.
func (s *openCV) deliver(before time.Time, result grabbed) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	kept := s.waiting[:0]
	for _, request := range s.waiting {
		if request.since.After(before) {
			kept = append(kept, request)
			continue
		}
		request.result <- result
	}
	clear(s.waiting[len(kept):])
	s.waiting = kept
}

func (s *openCV) wantedBefore(before time.Time) bool {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return len(s.waiting) > 0 && !s.waiting[0].since.After(before)
}

// readLive reads frames until the source is closed, and opens it again
// whenever it fails.
func (s *openCV) readLive() {
	retry := firstRetry
	for !s.isClosing() {
		err := s.readUntilFailure(func() { retry = firstRetry })
		if s.isClosing() {
			return
		}
		s.setState(err)
		s.deliver(time.Now(), grabbed{err: fmt.Errorf("camera %s: %w", s.name, err)})
		timer := time.NewTimer(retry)
		for waiting := true; waiting; {
			select {
			case <-timer.C:
				waiting = false
			case <-s.wanted:
				s.deliver(time.Now(), grabbed{err: fmt.Errorf("camera %s: %w", s.name, err)})
			case <-s.closing:
				timer.Stop()
				return
			}
		}
		retry = min(2*retry, lastRetry)
	}
}

func (s *openCV) readUntilFailure(works func()) error {
	device, err := s.open()
	if err != nil {
		return fmt.Errorf("cannot be opened: %w", err)
	}
	defer device.Close()
	mat := gocv.NewMat()
	defer mat.Close()
	for !s.isClosing() {
		began := time.Now()
		if !device.Read(&mat) || mat.Empty() {
			return errors.New("gives no more frames")
		}
		works()
		s.setState(nil)
		// Only who asked before this frame began gets it.
		if s.wantedBefore(began) {
			frame, err := toFrame(mat)
			s.deliver(began, grabbed{frame: frame, err: err})
		}
	}
	return nil
}

// readFile reads a frame whenever one is wanted, and the next one ahead, so
// that the last one is known to be the last.
func (s *openCV) readFile() {
	reader := &fileReader{openCV: s, mat: gocv.NewMat()}
	defer reader.close()
	var next grabbed
	ahead := false
	for {
		select {
		case <-s.closing:
			return
		case <-s.wanted:
		}
		for !s.isClosing() && s.wantedBefore(time.Now()) {
			if !ahead {
				next.frame, next.err = reader.read()
			}
			result := next
			if result.frame != nil {
				result.frame.Captured = time.Now()
			}
			// The end stays; after a fault the file is tried again.
			ahead = result.err == nil || errors.Is(result.err, io.EOF)
			if result.err == nil {
				next.frame, next.err = reader.read()
			}
			s.finished.Store(errors.Is(next.err, io.EOF))
			s.deliverFirst(result)
		}
	}
}

// Finished says that a file has no more frames.
func (s *openCV) Finished() bool { return s.finished.Load() }

// deliverFirst gives a result to who asked first.
func (s *openCV) deliverFirst(result grabbed) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if len(s.waiting) > 0 { // it may have been taken back
		s.waiting[0].result <- result
		s.waiting = slices.Delete(s.waiting, 0, 1)
	}
}

// fileReader reads the frames of a file in order.
type fileReader struct {
	*openCV
	device *gocv.VideoCapture // nil while it is not open
	mat    gocv.Mat
}

func (r *fileReader) close() {
	if r.device != nil {
		r.device.Close()
		r.device = nil
	}
	r.mat.Close()
}

// read returns the next frame, [io.EOF] after the last.
func (r *fileReader) read() (*Frame, error) {
	for range 2 { // the second time from the beginning
		if r.device == nil {
			opened, err := r.open()
			if err != nil {
				return nil, fmt.Errorf("video %s: cannot be opened: %w", r.name, err)
			}
			r.device = opened
		}
		if r.device.Read(&r.mat) && !r.mat.Empty() {
			return toFrame(r.mat)
		}
		if !r.loop {
			return nil, io.EOF
		}
		r.device.Close()
		r.device = nil
	}
	return nil, fmt.Errorf("video %s: holds no frames", r.name)
}

// toFrame copies OpenCV's picture, which is BGR or gray.
func toFrame(mat gocv.Mat) (*Frame, error) {
	captured := time.Now()
	data, err := mat.DataPtrUint8()
	if err != nil {
		return nil, fmt.Errorf("frame: %w", err)
	}
	picture := &Picture{Width: mat.Cols(), Height: mat.Rows()}
	pixels := picture.Width * picture.Height
	channels := mat.Channels()
	if (channels != 1 && channels != 3) || len(data) != pixels*channels {
		return nil, fmt.Errorf("frame: expected %d pixels of 1 or 3 channels, 8 bit, found %d channels and %d bytes", pixels, channels, len(data))
	}
	picture.RGB = make([]byte, 3*pixels)
	for i := range pixels {
		from, to := data[i*channels:(i+1)*channels], picture.RGB[3*i:3*i+3]
		to[0], to[1], to[2] = from[channels-1], from[channels/2], from[0]
	}
	return &Frame{Picture: picture, Captured: captured}, nil
}
