package capture

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gocv.io/x/gocv"
)

// film writes a video of frames, each of one gray.
func film(t *testing.T, grays ...byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "film.avi")
	writer, err := gocv.VideoWriterFile(path, "MJPG", 10, 64, 48, true)
	if err != nil {
		t.Fatal(err)
	}
	for _, gray := range grays {
		mat := gocv.NewMatWithSizeFromScalar(gocv.NewScalar(float64(gray), float64(gray), float64(gray), 0), 48, 64, gocv.MatTypeCV8UC3)
		if err := writer.Write(mat); err != nil {
			t.Fatal(err)
		}
		mat.Close()
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func open(t *testing.T, address string) Source {
	t.Helper()
	source, err := OpenSource(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for range 2 {
			if err := source.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	return source
}

func TestVideo(t *testing.T) {
	path := film(t, 40, 120, 200)
	for name, test := range map[string]struct {
		address string
		want    []byte // gray of each frame; 0: the end
	}{
		"once": {"video:" + path, []byte{40, 120, 200, 0, 0}},
		"loop": {"video:" + path + "?loop=true", []byte{40, 120, 200, 40, 120}},
	} {
		t.Run(name, func(t *testing.T) {
			source := open(t, test.address)
			for i, want := range test.want {
				frame, err := source.Grab(t.Context())
				if want == 0 {
					if !errors.Is(err, io.EOF) {
						t.Errorf("frame %d: want the end, found %v", i, err)
					}
					continue
				}
				if err != nil {
					t.Fatalf("frame %d: %v", i, err)
				}
				if frame.Picture.Width != 64 || frame.Picture.Height != 48 || len(frame.Picture.RGB) != 64*48*3 {
					t.Fatalf("frame %d: found %dx%d", i, frame.Picture.Width, frame.Picture.Height)
				}
				if finished := source.(*openCV).Finished(); finished != (name == "once" && i == 2) {
					t.Errorf("frame %d: finished is %t", i, finished)
				}
				if gray := int(frame.Picture.RGB[3*(24*64+32)]); gray < int(want)-6 || gray > int(want)+6 {
					t.Errorf("frame %d: want gray %d, found %d", i, want, gray)
				}
			}
		})
	}
}

// OpenCV's order is BGR.
func TestVideoColors(t *testing.T) {
	mat := gocv.NewMatWithSizeFromScalar(gocv.NewScalar(10, 20, 30, 0), 8, 8, gocv.MatTypeCV8UC3)
	defer mat.Close()
	frame, err := toFrame(mat)
	if err != nil || !bytes.HasPrefix(frame.Picture.RGB, []byte{30, 20, 10}) {
		t.Errorf("found %v, %v", frame, err)
	}
	gray := gocv.NewMatWithSizeFromScalar(gocv.NewScalar(50, 0, 0, 0), 8, 8, gocv.MatTypeCV8UC1)
	defer gray.Close()
	if frame, err := toFrame(gray); err != nil || !bytes.HasPrefix(frame.Picture.RGB, []byte{50, 50, 50}) {
		t.Errorf("found %v, %v", frame, err)
	}
	deep := gocv.NewMatWithSize(8, 8, gocv.MatTypeCV16UC3)
	defer deep.Close()
	if _, err := toFrame(deep); err == nil {
		t.Error("16 bit must be refused")
	}
}

func TestVideoThatIsNone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "film.avi")
	if err := os.WriteFile(path, []byte("this is no film"), 0o600); err != nil {
		t.Fatal(err)
	}
	source := open(t, "video:"+path)
	if _, err := source.Grab(t.Context()); err == nil || !strings.Contains(err.Error(), "cannot be opened") {
		t.Errorf("found %v", err)
	}
	if err := os.Rename(film(t, 40), path); err != nil {
		t.Fatal(err)
	}
	if _, err := source.Grab(t.Context()); err != nil {
		t.Errorf("it is a film now: found %v", err)
	}
}

// A live source that plays a film is read all the time, comes back after its
// end, and gives no frame from before the trigger.
func TestLiveSource(t *testing.T) {
	path := film(t, make([]byte, 2000)...) // long enough to be asked within
	source := startOpenCV(&openCV{
		name: "test", live: true,
		open: func() (*gocv.VideoCapture, error) { return gocv.OpenVideoCaptureWithAPI(path, gocv.VideoCaptureAny) },
	})
	defer source.Close() //nolint:errcheck // checked below
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	frames, failures := 0, 0
	for frames < 3 || failures < 2 {
		asked := time.Now()
		frame, err := source.Grab(ctx)
		if ctx.Err() != nil {
			t.Fatal(err)
		}
		if err != nil {
			failures++
			if !strings.HasPrefix(err.Error(), "camera test: ") {
				t.Errorf("found %v", err)
			}
			if err := source.Alive(); err == nil {
				t.Error("a source that fails must say so")
			}
			// The next attempt to open it comes by itself.
			for source.Alive() != nil && ctx.Err() == nil {
				time.Sleep(time.Millisecond)
			}
			continue
		}
		frames++
		if frame.Captured.Before(asked) {
			t.Errorf("the frame is of %s before the trigger", asked.Sub(frame.Captured))
		}
	}
	for range 2 {
		if err := source.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := source.Grab(t.Context()); err == nil {
		t.Error("it is closed")
	}
}

// A GStreamer pipeline: color bars, of which the first is white.
func TestGStreamer(t *testing.T) {
	source := open(t, "gstreamer:videotestsrc pattern=smpte is-live=true ! video/x-raw,width=320,height=240,framerate=30/1 ! videoconvert ! video/x-raw,format=BGR ! appsink")
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	for range 3 {
		frame, err := source.Grab(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if frame.Picture.Width != 320 || frame.Picture.Height != 240 {
			t.Fatalf("found %dx%d", frame.Picture.Width, frame.Picture.Height)
		}
		// White, yellow, cyan: their reds and blues tell RGB from BGR.
		for bar, want := range [][3]bool{{true, true, true}, {true, true, false}, {false, true, true}} {
			pixel := frame.Picture.RGB[3*(50*320+320/7*bar+20):]
			if found := [3]bool{pixel[0] > 100, pixel[1] > 100, pixel[2] > 100}; found != want {
				t.Errorf("bar %d: want %v, found %v", bar, want, pixel[:3])
			}
		}
	}
}

// A camera that hangs in its driver holds up nobody's deadline.
func TestBlockedCamera(t *testing.T) {
	hang := make(chan struct{})
	source := startOpenCV(&openCV{name: "test", live: true, open: func() (*gocv.VideoCapture, error) { <-hang; return nil, errors.New("at last") }})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := source.Grab(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "no frame came in time") {
		t.Errorf("found %v", err)
	}
	if len(source.waiting) != 0 {
		t.Error("who gave up is forgotten")
	}
	close(hang)
	if err := source.Close(); err != nil {
		t.Error(err)
	}
}

func TestFolder(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"b.png", "a.png"} {
		content, err := (&Picture{Width: 8, Height: 8, RGB: make([]byte, 192)}).EncodePNG()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "aa.png"), []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]string{"folder:" + dir: "a ! b end end", "folder:" + dir + "?loop=true": "a ! b a !"} {
		source := open(t, address)
		var found []string
		for range 5 {
			switch frame, err := source.Grab(t.Context()); {
			case errors.Is(err, io.EOF):
				found = append(found, "end")
			case err != nil:
				found = append(found, "!")
			default:
				found = append(found, strings.TrimSuffix(filepath.Base(frame.Name), ".png"))
			}
		}
		if strings.Join(found, " ") != want {
			t.Errorf("%s: want %s, found %v", address, want, found)
		}
	}
	if _, err := OpenSource("folder:" + t.TempDir()); err == nil || !strings.Contains(err.Error(), "no pictures") {
		t.Errorf("found %v", err)
	}
}

func TestSourceNames(t *testing.T) {
	for address, want := range map[string]string{
		"rtsp://user:secret@camera:554/stream?password=secret": "rtsp://camera:554/stream",
		"rtsp://user:sec%ret@camera/":                          "rtsp://…",
		"gstreamer:rtspsrc user-pw=secret ! appsink":           "gstreamer pipeline",
		"v4l2:/dev/video0":                                     "v4l2:/dev/video0",
		"folder:/data":                                         "folder:/data",
	} {
		if found := SourceName(address); found != want {
			t.Errorf("want %s, found %s", want, found)
		}
	}
	if !IsLive("v4l2:/dev/video0") || IsLive("folder:x") || IsLive("video:x") {
		t.Error("cameras are live, files are not")
	}
	if _, err := OpenSource("usb:0"); err == nil {
		t.Error("want it refused")
	}
}

func TestWatch(t *testing.T) {
	dir := t.TempDir()
	put := func(name, content string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("b.png", "1")
	put("a.png", "1")
	put("notes.txt", "1")
	ctx, cancel := context.WithCancel(t.Context())
	arrivals, problems := make(chan Arrival), make(chan error, 1000)
	answers := make(chan bool)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		Watch(ctx, dir, time.Millisecond, func(arrival Arrival) bool { arrivals <- arrival; return <-answers }, func(err error) {
			select {
			case problems <- err:
			default:
			}
		})
	}()
	next := func(answer bool) Arrival {
		arrival := <-arrivals
		answers <- answer
		return arrival
	}
	if found := next(false).Rel + next(false).Rel; found != "a.pnga.png" {
		t.Errorf("what was not taken comes again, and holds those behind it: found %s", found)
	}
	first := next(true)
	if found := first.Rel + next(true).Rel; found != "a.pngb.png" {
		t.Errorf("found %s", found)
	}
	put("a.png", "another picture of the same name")
	if again := next(true); again.Rel != "a.png" || again.ID == first.ID {
		t.Errorf("found %+v after %+v", again, first)
	}
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	for err := range problems {
		if err != nil {
			break
		}
	}
	cancel()
	<-ended
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
}

func TestVirtualLine(t *testing.T) {
	source := open(t, "virtual:cap?size=64&count=2&defective=100")
	for range 2 {
		frame, err := source.Grab(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(frame.Name, "cap-00000") || len(frame.Picture.RGB) != 3*64*64 {
			t.Errorf("found %s with %d bytes", frame.Name, len(frame.Picture.RGB))
		}
	}
	if _, err := source.Grab(t.Context()); !errors.Is(err, io.EOF) {
		t.Errorf("want the end after two parts, found %v", err)
	}
	if IsLive("virtual:cap") {
		t.Error("a virtual line is no camera")
	}
}
