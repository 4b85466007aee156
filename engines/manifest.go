package engines

import (
	"fmt"

	"gladd/internal/strictyaml"
)

// ManifestFile is the name of a bundle's manifest within its folder.
const ManifestFile = "bundle.yaml"

// ManifestSchema is the schema of manifests that this version reads.
const ManifestSchema = "gladd.bundle/v1"

// Manifest is the content of bundle.yaml.
type Manifest struct {
	Schema     string         `yaml:"schema"`
	Name       string         `yaml:"name"`
	Version    string         `yaml:"version"`
	Image      Image          `yaml:"image"`
	Latent     Latent         `yaml:"latent"`
	Schedule   Schedule       `yaml:"schedule"`
	Denoise    Denoise        `yaml:"denoise"`
	Score      Score          `yaml:"score"`
	Classes    []string       `yaml:"classes"`
	Graphs     Graphs         `yaml:"graphs"`
	Provenance map[string]any `yaml:"provenance"`
}

// Image is the size of the networks' pictures, in pixels.
type Image struct {
	Width  int `yaml:"width"`
	Height int `yaml:"height"`
}

// Latent is the size of the latents, and how a picture is encoded.
type Latent struct {
	Channels int    `yaml:"channels"`
	Width    int    `yaml:"width"`
	Height   int    `yaml:"height"`
	Encode   string `yaml:"encode"` // mean | sample
}

// The ways to encode a picture: the posterior's mean, or a sample of it.
const (
	EncodeMean   = "mean"
	EncodeSample = "sample"
)

// Schedule is the noise schedule of training.
type Schedule struct {
	TrainTimesteps int     `yaml:"train_timesteps"`
	BetaSchedule   string  `yaml:"beta_schedule"` // scaled_linear
	BetaStart      float64 `yaml:"beta_start"`
	BetaEnd        float64 `yaml:"beta_end"`
	StepsOffset    int     `yaml:"steps_offset"`
	SetAlphaToOne  bool    `yaml:"set_alpha_to_one"`
}

// Denoise steers the reconstruction.
type Denoise struct {
	Step           int     `yaml:"step"`
	InferenceSteps int     `yaml:"inference_steps"`
	MinStep        int     `yaml:"min_step"`
	Threshold      float64 `yaml:"threshold"`
	GateTopK       int     `yaml:"gate_top_k"`
	NoiseStep      *int    `yaml:"noise_step"` // Step where absent
}

// Score steers the final comparison.
type Score struct {
	TopK       int    `yaml:"top_k"`
	ObjectMask string `yaml:"object_mask"` // none | otsu_dark | otsu_bright
	MapSize    int    `yaml:"map_size"`
	// Standardise says whether calibrations hold statistics of good parts' maps
	// for each location, which the map is standardised by.
	Standardise string `yaml:"standardise"` // none (where absent) | location
}

// The ways to standardise a map.
const (
	StandardiseNone     = "none"
	StandardiseLocation = "location"
)

// Graphs are the five networks.
type Graphs struct {
	VAEEncoder GraphFile `yaml:"vae_encoder"`
	UNet       GraphFile `yaml:"unet"`
	VAEDecoder GraphFile `yaml:"vae_decoder"`
	DINOGate   GraphFile `yaml:"dino_gate"`
	DINOScore  GraphFile `yaml:"dino_score"`
}

// GraphFile is an ONNX file and the files that hold its larger weights.
type GraphFile struct {
	DigestedFile `yaml:",inline"`
	ExternalData []DigestedFile `yaml:"external_data"`
}

// DigestedFile is a file of the bundle's folder and its SHA-256, in hex.
type DigestedFile struct {
	File   string `yaml:"file"`
	SHA256 string `yaml:"sha256"`
}

// requiredKeys have no default.
var requiredKeys = []string{
	"schema", "name", "version",
	"image.width", "image.height",
	"latent.channels", "latent.width", "latent.height", "latent.encode",
	"schedule.train_timesteps", "schedule.beta_schedule", "schedule.beta_start", "schedule.beta_end",
	"schedule.steps_offset", "schedule.set_alpha_to_one",
	"denoise.step", "denoise.inference_steps", "denoise.min_step", "denoise.threshold", "denoise.gate_top_k",
	"score.top_k", "score.object_mask", "score.map_size",
	"graphs.vae_encoder.file", "graphs.vae_encoder.sha256",
	"graphs.unet.file", "graphs.unet.sha256",
	"graphs.vae_decoder.file", "graphs.vae_decoder.sha256",
	"graphs.dino_gate.file", "graphs.dino_gate.sha256",
	"graphs.dino_score.file", "graphs.dino_score.sha256",
}

// parseManifest decodes and checks a manifest; file is the name for errors.
func parseManifest(file string, data []byte) (Manifest, error) {
	// The schema comes first: a manifest of another schema has other keys, and
	// a list of unknown keys would hide the reason.
	if schema, found := strictyaml.Peek(data, "schema"); found && schema != ManifestSchema {
		return Manifest{}, fmt.Errorf("%s: schema: expected %s, found %q; this bundle needs another version of gladd", file, ManifestSchema, schema)
	}
	var manifest Manifest
	document, err := strictyaml.Decode(file, data, &manifest)
	if err != nil {
		return Manifest{}, err
	}
	if err := document.Require(requiredKeys...); err != nil {
		return Manifest{}, err
	}
	if manifest.Score.Standardise == "" {
		manifest.Score.Standardise = StandardiseNone
	}
	if manifest.Denoise.NoiseStep == nil {
		manifest.Denoise.NoiseStep = &manifest.Denoise.Step
	}
	return manifest, manifest.check(document)
}
