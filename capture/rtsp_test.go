package capture

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/bluenviron/gortsplib/v4"
	"github.com/bluenviron/gortsplib/v4/pkg/base"
	"github.com/bluenviron/gortsplib/v4/pkg/description"
	rtpformat "github.com/bluenviron/gortsplib/v4/pkg/format"
)

// networkCamera is an RTSP server that shows one gray, 50 times a second.
type networkCamera struct {
	server *gortsplib.Server
	stream *gortsplib.ServerStream
	stop   chan struct{}
	sender sync.WaitGroup

	mutex sync.Mutex
	gray  byte
}

func (c *networkCamera) OnDescribe(*gortsplib.ServerHandlerOnDescribeCtx) (*base.Response, *gortsplib.ServerStream, error) {
	return &base.Response{StatusCode: base.StatusOK}, c.stream, nil
}

func (c *networkCamera) OnSetup(*gortsplib.ServerHandlerOnSetupCtx) (*base.Response, *gortsplib.ServerStream, error) {
	return &base.Response{StatusCode: base.StatusOK}, c.stream, nil
}

func (c *networkCamera) OnPlay(*gortsplib.ServerHandlerOnPlayCtx) (*base.Response, error) {
	return &base.Response{StatusCode: base.StatusOK}, nil
}

func (c *networkCamera) show(gray byte) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.gray = gray
}

func startNetworkCamera(t *testing.T, address string) *networkCamera {
	t.Helper()
	c := &networkCamera{stop: make(chan struct{}), gray: 50}
	c.server = &gortsplib.Server{Handler: c, RTSPAddress: address}
	if err := c.server.Start(); err != nil {
		t.Fatal(err)
	}
	motion := &rtpformat.MJPEG{}
	video := &description.Media{Type: description.MediaTypeVideo, Formats: []rtpformat.Format{motion}}
	c.stream = gortsplib.NewServerStream(c.server, &description.Session{Medias: []*description.Media{video}})
	encoder, err := motion.CreateEncoder()
	if err != nil {
		t.Fatal(err)
	}
	c.sender.Go(func() {
		ticker := time.NewTicker(20 * time.Millisecond)
		defer ticker.Stop()
		for timestamp := uint32(0); ; timestamp += 1800 { // of 90 kHz
			select {
			case <-c.stop:
				return
			case <-ticker.C:
			}
			c.mutex.Lock()
			picture := image.NewYCbCr(image.Rect(0, 0, 64, 48), image.YCbCrSubsampleRatio420)
			for i := range picture.Y {
				picture.Y[i] = c.gray
			}
			c.mutex.Unlock()
			for i := range picture.Cb {
				picture.Cb[i], picture.Cr[i] = 128, 128
			}
			var file bytes.Buffer
			if err := jpeg.Encode(&file, picture, nil); err != nil {
				t.Error(err)
			}
			packets, err := encoder.Encode(file.Bytes())
			if err != nil {
				t.Error(err)
			}
			for _, packet := range packets {
				packet.Timestamp = timestamp
				if err := c.stream.WritePacketRTP(video, packet); err != nil {
					return // it was closed
				}
			}
		}
	})
	return c
}

func (c *networkCamera) close() {
	close(c.stop)
	c.sender.Wait()
	c.stream.Close()
	c.server.Close()
}

// grabGray waits for a frame of a gray; failures on the way are passed over.
func grabGray(t *testing.T, source Source, want int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	for {
		frame, err := source.Grab(ctx)
		if ctx.Err() != nil {
			t.Fatalf("no frame of gray %d: %v", want, err)
		}
		if err != nil {
			continue
		}
		if gray := int(frame.Picture.RGB[0]); gray > want-8 && gray < want+8 {
			return
		}
	}
}

// A network camera that goes away and comes back.
func TestRTSP(t *testing.T) {
	probe, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := probe.Addr().String()
	probe.Close() //nolint:errcheck // only its number was wanted

	source := open(t, fmt.Sprintf("rtsp://user:secret@%s/line", address))
	if _, err := source.Grab(t.Context()); err == nil || err.Error() != fmt.Sprintf("camera rtsp://%s/line: cannot be opened: no answer; is the address right, and the camera on?", address) {
		t.Errorf("found %v", err)
	}
	camera := startNetworkCamera(t, address)
	grabGray(t, source, 50)
	camera.show(200)
	grabGray(t, source, 200)
	if err := source.(*openCV).Alive(); err != nil {
		t.Errorf("found %v", err)
	}
	camera.close()
	failed := false
	for !failed { // what the network holds is shown first
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		_, err := source.Grab(ctx)
		cancel()
		failed = err != nil && !errors.Is(err, context.DeadlineExceeded)
	}
	if source.(*openCV).Alive() == nil {
		t.Error("a camera that has gone is not alive")
	}
	camera = startNetworkCamera(t, address)
	defer camera.close()
	camera.show(120)
	grabGray(t, source, 120)
}
