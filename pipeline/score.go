package pipeline

// meanTopK returns the mean of the k highest values, k the length of highest,
// which it overwrites; 1 <= k <= len(values). The values must not be NaN.
func meanTopK(values, highest []float32) float64 {
	// A heap with the lowest of the k highest values on top: most values are
	// done with after one comparison.
	k := len(highest)
	copy(highest, values)
	for i := k/2 - 1; i >= 0; i-- {
		siftDown(highest, i)
	}
	for _, value := range values[k:] {
		if value > highest[0] {
			highest[0] = value
			siftDown(highest, 0)
		}
	}
	var sum float64
	for _, value := range highest {
		sum += float64(value)
	}
	return sum / float64(k)
}

// siftDown restores the order of a heap, lowest value first, below index i.
func siftDown(heap []float32, i int) {
	for {
		child := 2*i + 1
		if child >= len(heap) {
			return
		}
		if right := child + 1; right < len(heap) && heap[right] < heap[child] {
			child = right
		}
		if heap[i] <= heap[child] {
			return
		}
		heap[i], heap[child] = heap[child], heap[i]
		i = child
	}
}
