// Package bench measures what a model costs on this machine, and what its plans
// leave of the verdicts: speed is never shown without quality beside it.
package bench

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"gladd/capture"
	"gladd/daemon/internal/evaluate"
	"gladd/daemon/internal/inspection"
	"gladd/engines"
	"gladd/pipeline"
)

// Options of a measurement.
type Options struct {
	// Plans are copies of one model, one for each plan, which share their
	// networks. The first is the one that the others are compared with.
	Plans []Plan
	// Networks are those that they share.
	Networks engines.Networks
	Class    evaluate.Class
	Index    int // of the parts' class in the model
	// Parts is how many parts come at each load; 0: loads are not measured.
	Parts int
	// Again opens one more copy of a plan, for stations beside each other.
	Again func(Plan) (Plan, error)

	Begin    func(what string, count int)
	Step     func()
	Software string
}

// Plan is a model that inspects by one plan.
type Plan struct {
	Name  string
	Model *inspection.Model
	Chunk int // comparisons in a call; 0: as the self-test found best
}

// Report is what was measured.
type Report struct {
	Schema   string   `json:"schema"`
	Software string   `json:"software"`
	Machine  Machine  `json:"machine"`
	Bundle   string   `json:"bundle"`
	Digest   string   `json:"model_digest"`
	Data     string   `json:"data"`
	Good     int      `json:"good"`
	Bad      int      `json:"defective"`
	Plans    []Costs  `json:"plans"`
	Against  []Beside `json:"against_first"`
	Loads    []Load   `json:"loads,omitempty"`
	Stations []Shared `json:"stations,omitempty"`
	Batches  []Batch  `json:"batches"`
	FullSize []Units  `json:"full_size"`
	GPU      *GPU     `json:"gpu,omitempty"` // nil: the networks did not run on TensorRT
}

const schema = "gladd.bench/v1"

// Machine is where it was measured.
type Machine struct {
	Processor  string `json:"processor"`
	Processors int    `json:"processors"`
	OS         string `json:"os"`
	Library    string `json:"library"`
	Precision  string `json:"precision"`
}

// Run measures. It needs at least one good picture and one plan.
func Run(ctx context.Context, options Options) (*Report, error) {
	first := options.Plans[0].Model
	report := &Report{
		Schema: schema, Software: options.Software,
		Machine: Machine{
			Processor: processor(), Processors: runtime.GOMAXPROCS(0), OS: runtime.GOOS + "/" + runtime.GOARCH,
			Library: first.Runtime.Library, Precision: first.Runtime.Precision,
		},
		Bundle: first.Bundle.Manifest.Name + " " + first.Bundle.Manifest.Version, Digest: first.Bundle.ModelDigest, Data: options.Class.Name,
	}
	for _, picture := range options.Class.Pictures {
		if picture.Good() {
			report.Good++
		} else {
			report.Bad++
		}
	}
	if report.Good == 0 {
		return nil, errors.New("measuring takes good pictures, and there is none")
	}
	runs, err := sideBySide(ctx, options)
	if err != nil {
		return nil, err
	}
	for i, plan := range options.Plans {
		costs, err := costsOf(plan, runs[i], options.Index)
		if err != nil {
			return nil, err
		}
		report.Plans = append(report.Plans, costs)
		if i > 0 {
			report.Against = append(report.Against, compare(plan.Name, runs[0], runs[i]))
		}
	}
	if report.Batches, err = batches(ctx, options); err != nil {
		return nil, err
	}
	if options.Parts > 0 {
		pictures, err := readPictures(options)
		if err != nil {
			return nil, err
		}
		if report.Loads, err = loads(ctx, options, report, pictures); err != nil {
			return nil, err
		}
		if report.Stations, err = stations(ctx, options, pictures); err != nil {
			return nil, err
		}
	}
	if report.GPU, err = gpu(ctx, options.Networks); err != nil {
		return nil, err
	}
	report.FullSize = fullSize(report.Plans)
	return report, nil
}

// run is one part under one plan.
type run struct {
	good    bool
	outcome inspection.Outcome // without what is large
	took    time.Duration      // without reading the file
}

// sideBySide inspects each part by every plan, in turn forwards and backwards:
// what changes on the machine meanwhile changes all alike (ABBA).
func sideBySide(ctx context.Context, options Options) ([][]run, error) {
	runs := make([][]run, len(options.Plans))
	for i := range runs {
		runs[i] = make([]run, len(options.Class.Pictures))
	}
	options.Begin("parts by all plans", len(options.Class.Pictures))
	for k, labelled := range options.Class.Pictures {
		picture, err := capture.ReadPicture(labelled.Path, 0)
		if err != nil {
			return nil, err
		}
		for n := range options.Plans {
			i := n
			if k%2 == 1 {
				i = len(options.Plans) - 1 - n
			}
			next, err := inspect(ctx, options.Plans[i], picture, options.Index)
			if err != nil {
				return nil, fmt.Errorf("%s, plan %s: %w", labelled.Path, options.Plans[i].Name, err)
			}
			next.good = labelled.Good()
			runs[i][k] = next
		}
		options.Step()
	}
	return runs, nil
}

// inspect inspects one part and keeps what is compared.
func inspect(ctx context.Context, plan Plan, picture *capture.Picture, class int) (run, error) {
	outcome := plan.Model.Inspector.Inspect(ctx, inspection.Part{Picture: picture, Class: class, AnyHealth: true})
	if err := ctx.Err(); err != nil {
		return run{}, fmt.Errorf("stopped: %w", err)
	}
	if !outcome.Scored {
		return run{}, fmt.Errorf("%s: %s", outcome.Reason.Code, outcome.Reason.Detail)
	}
	took := outcome.Prepare + outcome.Result.Timings.Total
	outcome.Prepared, outcome.Result.AnomalyMap, outcome.Result.Reconstruction, outcome.Result.Latent = nil, nil, nil, nil
	return run{outcome: outcome, took: took}, nil
}

// Costs are what a plan's parts cost, in milliseconds.
type Costs struct {
	Plan string `json:"plan"`
	// Good parts, in the mean: the whole, its interval, and the stages.
	Good     Spread  `json:"good_ms"`
	Stages   []Stage `json:"stages"`
	Slowest  float64 `json:"slowest_ms"`      // of all parts
	BadMean  float64 `json:"defective_ms"`    // 0 without defective parts
	Networks float64 `json:"networks_share"`  // of the time of all parts
	Calls    Calls   `json:"good_part_calls"` // of one that never comes near the gate threshold
	Crossed  float64 `json:"good_crossed"`    // share of good parts that crossed it
	Pairs    float64 `json:"comparisons"`     // of a good part, in the mean
	BadPairs float64 `json:"comparisons_of_defective"`
}

// Calls are a part's calls of the networks.
type Calls struct {
	Predictions int `json:"predictions"`
	Comparisons int `json:"comparisons"`
	// Of exact mode: the steps, and how many of them come after a switch at the
	// minimal step.
	Steps int `json:"steps"`
	Tail  int `json:"tail"`
}

// Stage is the mean time of a stage for a good part.
type Stage struct {
	Name string  `json:"name"`
	MS   float64 `json:"ms"`
}

func costsOf(plan Plan, runs []run, class int) (Costs, error) {
	costs := Costs{Plan: plan.Name}
	calls, whole, err := plan.Model.Inspector.Calls(class)
	if err != nil {
		return costs, err
	}
	costs.Calls = Calls{
		Predictions: calls.Predictions, Comparisons: calls.Comparisons,
		Steps: whole.Predictions, Tail: whole.Predictions - whole.Comparisons,
	}
	var good, bad, inside, all []float64
	var stages pipeline.Timings
	var prepare time.Duration
	crossed := 0
	for _, each := range runs {
		timings, ms := each.outcome.Result.Timings, milliseconds(each.took)
		costs.Slowest = max(costs.Slowest, ms)
		inside, all = append(inside, milliseconds(timings.Networks())), append(all, ms)
		if !each.good {
			bad = append(bad, ms)
			costs.BadPairs += float64(len(each.outcome.Result.Gate))
			continue
		}
		good = append(good, ms)
		costs.Pairs += float64(len(each.outcome.Result.Gate))
		if each.outcome.Result.SwitchReason == pipeline.SwitchThreshold {
			crossed++
		}
		stages.Encode += timings.Encode
		stages.PredictNoise += timings.PredictNoise
		stages.Compare += timings.Compare
		stages.Reconstruct += timings.Reconstruct
		stages.Score += timings.Score
		stages.Total += timings.Total
		prepare += each.outcome.Prepare
	}
	count := float64(len(good))
	costs.Good, costs.Pairs, costs.Crossed = spreadOf(good), costs.Pairs/count, float64(crossed)/count
	if len(bad) > 0 {
		costs.BadMean, costs.BadPairs = mean(bad), costs.BadPairs/float64(len(bad))
	}
	costs.Networks = mean(inside) / mean(all)
	for _, stage := range []struct {
		name string
		took time.Duration
	}{
		{"encode", stages.Encode}, {"predict noise", stages.PredictNoise}, {"compare", stages.Compare},
		{"reconstruct", stages.Reconstruct}, {"score", stages.Score}, {"outside the networks", stages.Total + prepare - stages.Networks()},
	} {
		costs.Stages = append(costs.Stages, Stage{stage.name, milliseconds(stage.took) / count})
	}
	return costs, nil
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
