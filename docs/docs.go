// Package docs holds what the program prints of the documentation.
package docs

import _ "embed" // for AsyncAPI

// AsyncAPI describes the messages between gladd and the MES: topics, payloads,
// who sends what.
//
//go:embed asyncapi.yaml
var AsyncAPI []byte
