package cuda_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"testing"

	"gladd/trt/cuda"
)

// gpu is one that no other test on this computer uses.
func gpu() cuda.Properties {
	return cuda.Properties{Name: "Fake", UUID: fmt.Sprintf("GPU-test-%016x", rand.Uint64())}
}

func claim(t *testing.T, gpu cuda.Properties, later func(int)) (*cuda.Claim, []int) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("works on Linux only")
	}
	made, users, err := gpu.Claim(later)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := made.Close(); err != nil {
			t.Error(err)
		}
	})
	return made, users
}

func TestClaim(t *testing.T) {
	shared, me := gpu(), []int{os.Getpid()}
	later := make(chan int, 2)
	first, users := claim(t, shared, func(process int) { later <- process })
	if len(users) != 0 {
		t.Errorf("the first: expected no other user, found %v", users)
	}
	if _, users := claim(t, gpu(), nil); len(users) != 0 {
		t.Errorf("another GPU: expected no other user, found %v", users)
	}
	if _, users = claim(t, shared, nil); !slices.Equal(users, me) {
		t.Errorf("the second: expected %v, found %v", me, users)
	}
	if process := <-later; process != me[0] {
		t.Errorf("the first expected to hear of process %d, found %d", me[0], process)
	}
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	if _, users := claim(t, shared, nil); !slices.Equal(users, me) {
		t.Errorf("when the first has ended, the second is there: expected %v, found %v", me, users)
	}
	select {
	case <-later:
		t.Error("the first heard twice")
	default:
	}
}

func TestClaimsBeyondTheLastPlace(t *testing.T) {
	shared := gpu()
	for range 20 {
		claim(t, shared, nil)
	}
	if _, users := claim(t, shared, nil); len(users) != 1 {
		t.Errorf("expected this process, found %v", users)
	}
}

func TestClaimOfAGPUWithoutUUID(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("works on Linux only")
	}
	unnamed := cuda.Properties{Ordinal: 1, Name: "Fake"}
	if _, _, err := unnamed.Claim(nil); err == nil || err.Error() != "claim of GPU 1 (Fake): it has no UUID" {
		t.Errorf("expected an error that says so, found %v", err)
	}
	unnamed.Integrated = true
	claim(t, unnamed, nil) // of which a computer has one
}
