package ledger

import (
	"encoding/json"
	"path/filepath"
	"testing"
	"time"

	"gladd/daemon/internal/verdict"
)

func TestStories(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "ledger.db")
	l := openTest(t, path)
	images := NewImages(l, filepath.Join(dir, "images"), 1<<30)
	first := beginView(t, l, "P-1", front, func(made *verdict.Record) { made.CommandID = pointer("c-1") })
	stored, err := images.Store("st-front", first.TriggerID, time.UnixMilli(0), []byte("picture"))
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Finish(stationOf(front), evaluated(first, verdict.OK), time.Time{}, stored); err != nil {
		t.Fatal(err)
	}
	second := beginView(t, l, "P-1", back)
	finishView(t, l, second, verdict.NotOK)
	part := parts(t, l)[0]
	unfinished := begin(t, l, "c-2")
	runSQL(t, path, `INSERT INTO reviews VALUES ('v-1', '`+first.ResultID+`', 5, '{"by":"me"}')`)
	r := openTestReader(t, path)
	read := func(id string) (stories []*Story) {
		count, err := r.Stories(t.Context(), id, func(story *Story) error {
			stories = append(stories, story)
			return nil
		})
		if err != nil || count != len(stories) {
			t.Fatalf("%s: found %d, %v", id, count, err)
		}
		return stories
	}
	for _, id := range []string{first.ResultID, first.TriggerID} {
		stories := read(id)
		if len(stories) != 1 {
			t.Fatalf("%s: found %d", id, len(stories))
		}
		story := stories[0]
		if story.Source != stationOf(front) || story.TriggerID != first.TriggerID || len(story.JSON) != 0 || story.Result.ResultID != first.ResultID ||
			story.Result.Image != stored.path || story.ImageBytes != 7 || len(story.Reviews) != 1 || string(story.Reviews[0].JSON) != `{"by":"me"}` ||
			story.Part.ResultID != part.ResultID || story.Views != nil {
			t.Errorf("%s: found %+v", id, story)
		}
		var reply verdict.Reply
		if err := json.Unmarshal(story.Reply, &reply); err != nil || *reply.TriggerID != first.TriggerID {
			t.Errorf("%s: reply %s, %v", id, story.Reply, err)
		}
	}
	if stories := read("P-1"); len(stories) != 3 || stories[0].Result.ResultID != part.ResultID || stories[2].Result.ResultID != second.ResultID {
		t.Errorf("found %+v", stories)
	}
	story := read(part.ResultID)[0]
	if len(story.Views) != 2 || story.Views[0].ResultID != first.ResultID || story.Views[1].ResultID != second.ResultID || story.Part != nil {
		t.Errorf("found %+v", story)
	}
	story = read(unfinished.TriggerID)[0]
	if draft, err := story.Draft(); story.Result != nil || err != nil || *draft.CommandID != "c-2" || story.Reply == nil {
		t.Errorf("found %+v", story)
	}
	if stories := read("P-2"); stories != nil {
		t.Errorf("found %+v", stories)
	}
}
