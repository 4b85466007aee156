package evaluate

import "math"

// The per-region overlap as GLAD's authors compute it (utilize/utilize.py of
// the official code, after Bergmann et al., "Uninformed Students", CVPR 2020).
const (
	proThresholds = 200 // evenly from the lowest value of all maps, the highest excluded
	proFPRLimit   = 0.3
)

// overlap collects what the per-region overlap of one class needs, map by map.
type overlap struct {
	thresholds [proThresholds]float64
	lowest     float64
	step       float64
	// Pixels by the number of thresholds that they exceed.
	outside [proThresholds + 1]int // of the pixels without a defect
	regions [][proThresholds + 1]int
}

// newOverlap needs the lowest and the highest value of all maps.
func newOverlap(lowest, highest float64) *overlap {
	o := &overlap{lowest: lowest, step: (highest - lowest) / proThresholds}
	for i := range o.thresholds {
		o.thresholds[i] = lowest + float64(i)*o.step
	}
	return o
}

// exceeded is the number of thresholds that are strictly below a value.
func (o *overlap) exceeded(value float64) int {
	if o.step == 0 {
		return 0 // all maps are the same everywhere
	}
	count := min(max(int(math.Ceil((value-o.lowest)/o.step)), 0), proThresholds)
	// The division may be off by a rounding.
	for count < proThresholds && o.thresholds[count] < value {
		count++
	}
	for count > 0 && o.thresholds[count-1] >= value {
		count--
	}
	return count
}

// add takes a map [size][size] and its mask; a nil mask is that of a good part.
func (o *overlap) add(anomalyMap []float32, mask []bool, size int) {
	labels, count := label(mask, size)
	first := len(o.regions)
	o.regions = append(o.regions, make([][proThresholds + 1]int, count)...)
	for i, value := range anomalyMap {
		exceeded := o.exceeded(float64(value))
		if mask != nil && mask[i] {
			o.regions[first+int(labels[i])-1][exceeded]++
		} else {
			o.outside[exceeded]++
		}
	}
}

// pro is the area under the curve of mean overlap against false positive rate
// below 0.3, divided by the largest such rate; NaN without a region or without
// a pixel outside of one. Where all rates are the same, which leaves no area,
// it is the highest overlap among them: 1 for maps without a false positive
// that find every region whole, 0 for maps that are the same everywhere.
func (o *overlap) pro() float64 {
	total := 0
	for _, count := range o.outside {
		total += count
	}
	if len(o.regions) == 0 || total == 0 {
		return math.NaN()
	}
	var areas []float64
	for _, region := range o.regions {
		area := 0
		for _, count := range region {
			area += count
		}
		areas = append(areas, float64(area))
	}
	// From the highest threshold down: both rates grow.
	var rates, overlaps []float64
	above, falsePositives := make([]int, len(o.regions)), 0
	for i := proThresholds - 1; i >= 0; i-- {
		falsePositives += o.outside[i+1]
		rate := float64(falsePositives) / float64(total)
		if rate >= proFPRLimit {
			break
		}
		var sum float64
		for r := range o.regions {
			above[r] += o.regions[r][i+1]
			sum += float64(above[r]) / areas[r]
		}
		rates, overlaps = append(rates, rate), append(overlaps, sum/float64(len(areas)))
	}
	if len(rates) == 0 {
		return 0 // every threshold rejects too much
	}
	last := len(rates) - 1
	if rates[0] == rates[last] {
		return overlaps[last]
	}
	var area float64
	for i := range last {
		area += (rates[i+1] - rates[i]) * (overlaps[i] + overlaps[i+1]) / 2
	}
	return area / rates[last]
}

// label numbers the 8-connected regions of a mask [size][size] from 1; 0 is
// outside.
func label(mask []bool, size int) (labels []int32, count int) {
	if mask == nil {
		return nil, 0
	}
	labels = make([]int32, len(mask))
	var stack []int
	for start := range mask {
		if !mask[start] || labels[start] != 0 {
			continue
		}
		count++
		labels[start] = int32(count)
		stack = append(stack, start)
		for len(stack) > 0 {
			i := stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			for y := max(i/size-1, 0); y <= min(i/size+1, size-1); y++ {
				for x := max(i%size-1, 0); x <= min(i%size+1, size-1); x++ {
					if neighbour := y*size + x; mask[neighbour] && labels[neighbour] == 0 {
						labels[neighbour] = int32(count)
						stack = append(stack, neighbour)
					}
				}
			}
		}
	}
	return labels, count
}
