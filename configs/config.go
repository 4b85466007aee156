// Package configs holds the daemon's configuration: its types, defaults and
// checks, and the files that ship.
package configs

// Schema is the schema of configurations that this version reads.
const Schema = "gladd.config/v1"

// Config is a whole configuration. Every key has a default but those that
// requiredKeys names.
type Config struct {
	Schema   string            `yaml:"schema"`
	Site     string            `yaml:"site"`
	Line     string            `yaml:"line"`
	Box      string            `yaml:"box"` // the host's name where absent
	Stations []Station         `yaml:"stations"`
	Parts    []Part            `yaml:"parts"`
	Recipes  map[string]Recipe `yaml:"recipes"`
	Engines  Engines           `yaml:"engines"`
	Ledger   Ledger            `yaml:"ledger"`
	MQTT     MQTT              `yaml:"mqtt"`
	Web      Web               `yaml:"web"`
	GPU      GPU               `yaml:"gpu"`
}

// Station is one inspection point.
type Station struct {
	Name string `yaml:"name"`
	// Recipe is the one that is active at start.
	Recipe  string  `yaml:"recipe"`
	Camera  Camera  `yaml:"camera"`
	Trigger Trigger `yaml:"trigger"`
	// Deadline of a verdict, from the trigger.
	Deadline Duration `yaml:"deadline"`
	// Queue is the number of captured frames that may wait.
	Queue int `yaml:"queue"`
	// Attempts is how often the same part may be inspected; 0: without limit.
	Attempts int `yaml:"attempts"`
}

// Camera says where frames come from.
type Camera struct {
	// Source is a kind and what it opens: v4l2:DEVICE, rtsp://…,
	// gstreamer:PIPELINE, video:FILE, folder:DIR or virtual:KIND.
	Source string `yaml:"source"`
}

// Trigger says what starts an inspection.
type Trigger struct {
	Kind string `yaml:"kind"` // mqtt | http | interval | folder
	// Every is the time between triggers of kind interval, and between looks
	// into the folder of kind folder.
	Every Duration `yaml:"every"`
}

// The kinds of trigger.
const (
	TriggerMQTT     = "mqtt"
	TriggerHTTP     = "http"
	TriggerInterval = "interval"
	TriggerFolder   = "folder"
)

// Recipe names a model and how it is run.
type Recipe struct {
	Version string `yaml:"version"`
	Bundle  string `yaml:"bundle"` // a folder
	Mode    string `yaml:"mode"`   // exact | adaptive
	// Plans of mode adaptive, the best first; none: those that the bundle is
	// calibrated for, the quickest first.
	Plans []string `yaml:"plans"`
	Class string   `yaml:"class"` // for models of several classes
}

// Engines say what runs the networks.
type Engines struct {
	Backend            string `yaml:"backend"` // auto | onnxruntime | onnxruntime-cuda | tensorrt
	Threads            int    `yaml:"threads"` // 0: all that there are
	ONNXRuntimeLibrary string `yaml:"onnxruntime_library"`
	TensorRTLibrary    string `yaml:"tensorrt_library"`
	CacheDir           string `yaml:"cache_dir"`
}

// Ledger is the durable record of every trigger.
type Ledger struct {
	Path string   `yaml:"path"`
	Keep Duration `yaml:"keep"`
	// MinFree is what shall be free on the pictures' disk: below it pictures are
	// removed, and none are stored.
	MinFree Bytes  `yaml:"min_free"`
	Images  Images `yaml:"images"`
}

// Images are the pictures kept beside the ledger.
type Images struct {
	Dir      string `yaml:"dir"`  // "images" beside the ledger where absent
	Keep     string `yaml:"keep"` // all | not-ok | none
	MaxBytes Bytes  `yaml:"max_bytes"`
}

// The pictures that are kept.
const (
	KeepAll   = "all"
	KeepNotOK = "not-ok"
	KeepNone  = "none"
)

// MQTT is the connection to the MES.
type MQTT struct {
	URL          string `yaml:"url"` // mqtt://… | mqtts://…
	Username     string `yaml:"username"`
	PasswordFile string `yaml:"password_file"`
	CAFile       string `yaml:"ca_file"`
	CertFile     string `yaml:"cert_file"`
	KeyFile      string `yaml:"key_file"`
	// RequireAck keeps verdicts until the MES has acknowledged them, and sends them
	// again when it did not within AckTimeout.
	RequireAck bool     `yaml:"require_ack"`
	AckTimeout Duration `yaml:"ack_timeout"`
	// Embedded runs a broker inside the daemon, at Listen, for trying it out.
	Embedded bool   `yaml:"embedded"`
	Listen   string `yaml:"listen"`
	// AllowPlaintext lets mqtt:// go to another machine.
	AllowPlaintext bool `yaml:"allow_plaintext"`
}

// Web is the daemon's HTTP listener.
type Web struct {
	Listen    string `yaml:"listen"`
	TokenFile string `yaml:"token_file"` // needed beyond loopback
}

// GPU says how the GPU is watched.
type GPU struct {
	Monitor  string   `yaml:"monitor"` // auto | nvml | tegra | none
	Interval Duration `yaml:"interval"`
}

// Address is where the broker is.
func (m MQTT) Address() string {
	if m.Embedded {
		return "the embedded broker, mqtt://" + m.Listen
	}
	return m.URL
}
