package configs

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"gladd/capture/virtualline"
	"gladd/internal/strictyaml"
)

// name is the form of the names of sites, lines, boxes, stations, parts and recipes:
// they become levels of MQTT topics and parts of URLs.
var name = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$`)

// Limits beyond which a value is a slip.
const (
	maxQueue    = 1000
	maxDeadline = 10 * time.Minute
	minInterval = 10 * time.Millisecond
	// The MES is not asked faster than it can answer, nor less often than it is at
	// most.
	minAckTimeout = 100 * time.Millisecond
	maxAckTimeout = 10 * time.Minute
)

// checker collects what is wrong with a configuration.
type checker struct {
	document *strictyaml.Document
	found    []error
}

func (c *checker) refuse(key, format string, arguments ...any) {
	c.found = append(c.found, c.document.Errorf(key, format, arguments...))
}

func (c *checker) name(key, value string) {
	if !name.MatchString(value) {
		c.refuse(key, "expected a name of 1 to 64 letters, digits, - and _ that begins with a letter or digit, found %q", value)
	}
}

func (c *checker) oneOf(key, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		last := len(allowed) - 1
		words := allowed[0]
		if last > 0 {
			words = strings.Join(allowed[:last], ", ") + " or " + allowed[last]
		}
		c.refuse(key, "expected %s, found %q", words, value)
	}
}

// notYet refuses what the format knows and this version does not have.
func (c *checker) notYet(key, value string, instead string, values ...string) {
	if slices.Contains(values, value) {
		c.refuse(key, "this version of gladd does not have %s; use %s", value, instead)
	}
}

// file refuses a path that names no file; an empty one is not given.
func (c *checker) file(key, path string) {
	if path == "" {
		return
	}
	if info, err := os.Stat(path); err != nil {
		c.refuse(key, "no such file: %s", path)
	} else if info.IsDir() {
		c.refuse(key, "expected a file, found the folder %s", path)
	}
}

func (c *checker) folder(key, path string) {
	if info, err := os.Stat(path); err != nil {
		c.refuse(key, "no such folder: %s", path)
	} else if !info.IsDir() {
		c.refuse(key, "expected a folder, found the file %s", path)
	}
}

// check refuses impossible values and missing files; it reports all of them.
func (c *Config) check(document *strictyaml.Document) error {
	checks := &checker{document: document}
	checks.oneOf("schema", c.Schema, Schema)
	checks.name("site", c.Site)
	checks.name("line", c.Line)
	if !name.MatchString(c.Box) && !document.Has("box") {
		checks.refuse("box", "not given, and the host's name %q is no name for a box; give one of letters, digits, - and _", c.Box)
	} else {
		checks.name("box", c.Box)
	}
	c.checkStations(checks)
	c.checkParts(checks)
	c.checkRecipes(checks)
	c.checkEngines(checks)
	c.checkLedger(checks)
	c.checkMQTT(checks)
	c.checkWeb(checks)
	checks.oneOf("gpu.monitor", c.GPU.Monitor, "auto", "nvml", "tegra", "none")
	checks.notYet("gpu.monitor", c.GPU.Monitor, "auto, nvml or none", "tegra")
	if c.GPU.Interval < Duration(time.Second) {
		checks.refuse("gpu.interval", "expected at least 1s, found %s", time.Duration(c.GPU.Interval))
	}
	return errors.Join(checks.found...)
}

func (c *Config) checkStations(checks *checker) {
	if len(c.Stations) == 0 {
		checks.refuse("stations", "expected at least one station, found none")
	}
	first := map[string]int{}
	for i, station := range c.Stations {
		key := fmt.Sprintf("stations.%d.", i)
		if other, taken := first[station.Name]; taken {
			checks.refuse(key+"name", "expected a name of its own, found %q, which is also stations.%d", station.Name, other)
		} else {
			checks.name(key+"name", station.Name)
			first[station.Name] = i
		}
		if _, known := c.Recipes[station.Recipe]; !known {
			checks.refuse(key+"recipe", "expected the name of a recipe (%s), found %q", strings.Join(c.RecipeNames(), ", "), station.Recipe)
		}
		checkCamera(checks, key+"camera.source", station.Camera.Source)
		checkTrigger(checks, key+"trigger", station)
		if deadline := time.Duration(station.Deadline); deadline < 10*time.Millisecond || deadline > maxDeadline {
			checks.refuse(key+"deadline", "expected 10ms to %s, found %s", maxDeadline, deadline)
		}
		if station.Queue < 0 || station.Queue > maxQueue {
			checks.refuse(key+"queue", "expected 0 to %d, found %d", maxQueue, station.Queue)
		}
		checks.attempts(key+"attempts", station.Attempts)
	}
}

// RecipeNames lists the names of the recipes in order.
func (c *Config) RecipeNames() []string {
	var names []string
	for recipe := range c.Recipes {
		names = append(names, recipe)
	}
	slices.Sort(names)
	return names
}

func checkCamera(checks *checker, key, source string) {
	kind, rest := cutSource(source)
	path, query, _ := strings.Cut(rest, "?")
	switch {
	case kind == "virtual":
		if _, err := virtualline.NewBelt(rest); err != nil {
			checks.refuse(key, "%v", err)
		}
	case !slices.Contains([]string{"v4l2", "rtsp", "rtsps", "gstreamer", "video", "folder"}, kind) || rest == "":
		checks.refuse(key, "expected v4l2:DEVICE, rtsp://ADDRESS, gstreamer:PIPELINE, video:FILE, folder:DIR or virtual:KIND, found %q", source)
	case kind == "folder":
		checks.folder(key, path)
	case kind == "video":
		checks.file(key, path)
	}
	if (kind == "folder" || kind == "video") && query != "" && query != "loop=true" && query != "loop=false" {
		checks.refuse(key, "expected ?loop=true or nothing after the path, found %q", "?"+query)
	}
}

func checkTrigger(checks *checker, key string, station Station) {
	trigger := station.Trigger
	checks.notYet(key+".kind", trigger.Kind, "mqtt, http, interval or folder", "gpio")
	if trigger.Kind != "gpio" {
		checks.oneOf(key+".kind", trigger.Kind, TriggerMQTT, TriggerHTTP, TriggerInterval, TriggerFolder)
	}
	every := time.Duration(trigger.Every)
	switch trigger.Kind {
	case TriggerInterval, TriggerFolder:
		if every < minInterval {
			checks.refuse(key+".every", "expected at least %s, found %s", minInterval, every)
		}
	default:
		if checks.document.Has(key + ".every") {
			checks.refuse(key+".every", "belongs to triggers of kind interval or folder; this one is %s", trigger.Kind)
		}
	}
	if kind, _ := cutSource(station.Camera.Source); trigger.Kind == TriggerFolder && kind != "folder" {
		checks.refuse(key+".kind", "a folder trigger needs a folder:DIR camera, found %q", station.Camera.Source)
	}
}

func (c *Config) checkRecipes(checks *checker) {
	if len(c.Recipes) == 0 {
		checks.refuse("recipes", "expected at least one recipe, found none")
	}
	for _, recipeName := range c.RecipeNames() {
		recipe, key := c.Recipes[recipeName], "recipes."+recipeName
		checks.name(key, recipeName)
		if recipe.Version == "" {
			checks.refuse(key+".version", "expected a version such as \"1\", found nothing")
		}
		checks.oneOf(key+".mode", recipe.Mode, "exact", "adaptive")
		if len(recipe.Plans) > 0 && recipe.Mode == "exact" {
			checks.refuse(key+".plans", "belongs to mode adaptive; this recipe has mode exact")
		}
		for i, plan := range recipe.Plans {
			checks.oneOf(fmt.Sprintf("%s.plans[%d]", key, i), plan, "exact", "latest-first", "short-tail")
			if slices.Contains(recipe.Plans[:i], plan) {
				checks.refuse(key+".plans", "%s is there twice", plan)
			}
		}
		if recipe.Bundle == "" {
			checks.refuse(key+".bundle", "required, but missing")
		} else if _, err := os.Stat(filepath.Join(recipe.Bundle, "bundle.yaml")); err != nil {
			checks.refuse(key+".bundle", "expected a folder that holds bundle.yaml, found %s", recipe.Bundle)
		}
	}
}

func (c *Config) checkEngines(checks *checker) {
	checks.oneOf("engines.backend", c.Engines.Backend, "auto", "onnxruntime", "onnxruntime-cuda", "tensorrt")
	if c.Engines.Threads < 0 || c.Engines.Threads > 256 {
		checks.refuse("engines.threads", "expected 0 (all that there are) to 256, found %d", c.Engines.Threads)
	}
	checks.file("engines.onnxruntime_library", c.Engines.ONNXRuntimeLibrary)
	checks.file("engines.tensorrt_library", c.Engines.TensorRTLibrary)
}

func (c *Config) checkLedger(checks *checker) {
	if info, err := os.Stat(c.Ledger.Path); err == nil && info.IsDir() {
		checks.refuse("ledger.path", "expected a file, found the folder %s", c.Ledger.Path)
	}
	if c.Ledger.Keep < Duration(time.Hour) {
		checks.refuse("ledger.keep", "expected at least 1h, found %s", time.Duration(c.Ledger.Keep))
	}
	if c.Ledger.MinFree < 1<<20 {
		checks.refuse("ledger.min_free", "expected at least 1MiB, found %dB", c.Ledger.MinFree)
	}
	checks.oneOf("ledger.images.keep", c.Ledger.Images.Keep, KeepAll, KeepNotOK, KeepNone)
	if c.Ledger.Images.MaxBytes < 1<<20 {
		checks.refuse("ledger.images.max_bytes", "expected at least 1MiB, found %dB", c.Ledger.Images.MaxBytes)
	}
}

func (c *Config) checkMQTT(checks *checker) {
	mqtt := c.MQTT
	if timeout := time.Duration(mqtt.AckTimeout); timeout < minAckTimeout || timeout > maxAckTimeout {
		checks.refuse("mqtt.ack_timeout", "expected %s to %s, found %s", minAckTimeout, maxAckTimeout, timeout)
	}
	if mqtt.Embedded {
		for _, key := range []string{"url", "allow_plaintext", "username", "password_file", "ca_file", "cert_file", "key_file"} {
			if checks.document.Has("mqtt." + key) {
				checks.refuse("mqtt."+key, "the embedded broker takes no %s; leave it or mqtt.embedded out", key)
			}
		}
		if !loopback(mqtt.Listen) {
			checks.refuse("mqtt.listen", "expected a loopback address such as 127.0.0.1:1883 (the embedded broker is for trying it out), found %q", mqtt.Listen)
		}
		return
	}
	if checks.document.Has("mqtt.listen") {
		checks.refuse("mqtt.listen", "belongs to the embedded broker; give mqtt.embedded: true with it or leave it out")
	}
	address, err := url.Parse(mqtt.URL)
	tls := err == nil && address.Scheme == "mqtts"
	switch {
	case err != nil || address.Host == "" || (address.Scheme != "mqtt" && !tls) || strings.Trim(address.Path, "/") != "" || address.RawQuery != "":
		checks.refuse("mqtt.url", "expected mqtt://HOST:PORT or mqtts://HOST:PORT, found %q", withoutPassword(mqtt.URL))
	case address.User != nil:
		checks.refuse("mqtt.url", "a user or a password has no place in the address; use mqtt.username and mqtt.password_file")
	case !tls && !mqtt.AllowPlaintext && !loopbackHost(address.Hostname()):
		checks.refuse("mqtt.url", "nothing would be encrypted on the way to %s, passwords neither; use mqtts://, or write mqtt.allow_plaintext: true where everybody on the network may read and send commands", address.Hostname())
	}
	for key, path := range map[string]string{"ca_file": mqtt.CAFile, "cert_file": mqtt.CertFile, "key_file": mqtt.KeyFile} {
		checks.file("mqtt."+key, path)
		if path != "" && !tls {
			checks.refuse("mqtt."+key, "belongs to mqtts://; mqtt.url is not encrypted")
		}
	}
	checks.file("mqtt.password_file", mqtt.PasswordFile)
	if (mqtt.CertFile == "") != (mqtt.KeyFile == "") {
		checks.refuse("mqtt.cert_file", "cert_file and key_file belong together; one of them is missing")
	}
	if mqtt.PasswordFile != "" && mqtt.Username == "" {
		checks.refuse("mqtt.password_file", "a password without mqtt.username")
	}
}

// withoutPassword hides what may be a secret in an address.
func withoutPassword(address string) string {
	if at := strings.LastIndex(address, "@"); at >= 0 {
		return "…" + address[at:]
	}
	return address
}

func (c *Config) checkWeb(checks *checker) {
	if _, err := netip.ParseAddrPort(c.Web.Listen); err != nil && !loopback(c.Web.Listen) {
		checks.refuse("web.listen", "expected an address and a port such as 127.0.0.1:8080, found %q", c.Web.Listen)
		return
	}
	checks.file("web.token_file", c.Web.TokenFile)
	if !loopback(c.Web.Listen) && c.Web.TokenFile == "" {
		checks.refuse("web.listen", "%s can be reached from other machines, which needs web.token_file; or use 127.0.0.1", c.Web.Listen)
	}
}

// loopback says whether an address can be reached from this machine only.
func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	return loopbackHost(host)
}

func loopbackHost(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}
