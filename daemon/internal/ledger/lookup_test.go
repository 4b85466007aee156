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
	front := draft("c-1")
	front.Part.ID = pointer("P-1")
	if _, _, err := l.Begin(source, front); err != nil {
		t.Fatal(err)
	}
	stored, err := images.Store("st-01", front.TriggerID, time.UnixMilli(0), []byte("picture"))
	if err != nil {
		t.Fatal(err)
	}
	front.Evaluation = verdict.OK
	if err := l.Finish(source, front, time.Time{}, stored); err != nil {
		t.Fatal(err)
	}
	back := record(t, l, "/p/l/st-02", func(made *verdict.Record) { made.Part.ID = pointer("P-1") })
	part := record(t, l, "/p/l/housing", func(made *verdict.Record) {
		made.Kind, made.Part.ID, made.SourceResultIDs = "part", pointer("P-1"), []string{front.ResultID, back.ResultID}
	})
	unfinished := begin(t, l, "c-2")
	digestAll(t, path)
	runSQL(t, path, `UPDATE triggers SET part_trigger = '`+part.TriggerID+`' WHERE source IN ('/p/l/st-01', '/p/l/st-02') AND finished = 1`,
		`INSERT INTO reviews VALUES ('v-1', '`+front.ResultID+`', 5, '{"by":"me"}')`)
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
	for _, id := range []string{front.ResultID, front.TriggerID} {
		stories := read(id)
		if len(stories) != 1 {
			t.Fatalf("%s: found %d", id, len(stories))
		}
		story := stories[0]
		if story.Source != source || story.TriggerID != front.TriggerID || len(story.JSON) != 0 || story.Result.ResultID != front.ResultID ||
			story.Result.Image != stored.path || story.ImageBytes != 7 || len(story.Reviews) != 1 || string(story.Reviews[0].JSON) != `{"by":"me"}` ||
			story.Part.ResultID != part.ResultID || story.Views != nil {
			t.Errorf("%s: found %+v", id, story)
		}
		var reply verdict.Reply
		if err := json.Unmarshal(story.Reply, &reply); err != nil || *reply.TriggerID != front.TriggerID {
			t.Errorf("%s: reply %s, %v", id, story.Reply, err)
		}
	}
	if stories := read("P-1"); len(stories) != 3 || stories[2].Result.ResultID != part.ResultID {
		t.Errorf("found %+v", stories)
	}
	story := read(part.ResultID)[0]
	if len(story.Views) != 2 || story.Views[0].ResultID != front.ResultID || story.Views[1].ResultID != back.ResultID || story.Part != nil {
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
