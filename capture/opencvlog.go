package capture

/*
#cgo pkg-config: opencv4
void gladd_silence_opencv(void);
*/
import "C"

import (
	"os"
	"sync"
)

// silenceOpenCV keeps OpenCV and its libraries from writing to stderr, which
// is the log: in a form of their own, and addresses with passwords. Whoever
// sets OPENCV_LOG_LEVEL or OPENCV_FFMPEG_LOGLEVEL wants to read that. GoCV
// does not wrap the call.
var silenceOpenCV = sync.OnceFunc(func() {
	if os.Getenv("OPENCV_LOG_LEVEL") == "" {
		C.gladd_silence_opencv()
	}
	if os.Getenv("OPENCV_FFMPEG_LOGLEVEL") == "" {
		os.Setenv("OPENCV_FFMPEG_LOGLEVEL", "-8") //nolint:errcheck // the name is a good one; -8 is FFmpeg's AV_LOG_QUIET
	}
})
