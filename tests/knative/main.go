// With `render FOLDER`, the program prints the objects of a kustomization. Otherwise it reads Knative manifests as Knative's admission webhooks do and prints, as JSON, the pods Knative would make of them.
//
// What Knative refuses is written to standard error, one line per file, and the exit status is 1. It spares the tests a cluster with
// Knative: types, defaults, validation and pods all come from Knative's own code.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"
	eventingv1alpha1 "knative.dev/eventing/pkg/apis/eventing/v1alpha1"
	"knative.dev/eventing/pkg/apis/feature"
	sourcesv1 "knative.dev/eventing/pkg/apis/sources/v1"
	"knative.dev/pkg/apis"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
	"sigs.k8s.io/yaml"
)

func main() {
	if len(os.Args) == 3 && os.Args[1] == "render" {
		if err := render(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	var pods []corev1.Pod
	refused := false
	for _, path := range os.Args[1:] {
		pod, err := read(path)
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", filepath.Base(path), err)
			refused = true
			continue
		}
		if pod != nil {
			pods = append(pods, *pod)
		}
	}
	if refused {
		os.Exit(1)
	}
	if err := json.NewEncoder(os.Stdout).Encode(pods); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// read returns the pod Knative would make of the manifest at path, or why it refuses it; nil where an adapter of its own does the work.
func read(path string) (*corev1.Pod, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var head struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
	}
	if err := yaml.Unmarshal(data, &head); err != nil {
		return nil, err
	}
	switch [2]string{head.APIVersion, head.Kind} {
	case [2]string{"serving.knative.dev/v1", "Service"}:
		service := &servingv1.Service{}
		if err := admit(data, service); err != nil {
			return nil, err
		}
		return servicePod(service)
	case [2]string{"sources.knative.dev/v1", "ApiServerSource"}:
		source := &sourcesv1.ApiServerSource{}
		if err := admit(data, source); err != nil {
			return nil, err
		}
		return sourcePod(source)
	case [2]string{"sources.knative.dev/v1", "PingSource"}:
		return nil, admit(data, &sourcesv1.PingSource{})
	case [2]string{"eventing.knative.dev/v1", "Broker"}:
		return nil, admit(data, &eventingv1.Broker{})
	case [2]string{"eventing.knative.dev/v1", "Trigger"}:
		return nil, admit(data, &eventingv1.Trigger{})
	case [2]string{"eventing.knative.dev/v1alpha1", "EventPolicy"}:
		return nil, admit(data, &eventingv1alpha1.EventPolicy{})
	}
	return nil, fmt.Errorf("%s %s is not a kind this program knows", head.APIVersion, head.Kind)
}

// admissible is what the webhooks ask of a type.
type admissible interface {
	apis.Defaultable
	apis.Validatable
}

// admit decodes data into object, where an unknown or repeated field is an error, sets the defaults and validates.
func admit(data []byte, object admissible) error {
	if err := yaml.UnmarshalStrict(data, object); err != nil {
		return err
	}
	// Knative refuses an EventPolicy in a cluster without this feature.
	features := feature.Flags{feature.OIDCAuthentication: feature.Enabled}
	ctx := apis.WithinCreate(feature.ToContext(context.Background(), features))
	object.SetDefaults(ctx)
	// A nil *FieldError must not become a non-nil error.
	if refusal := object.Validate(ctx); refusal != nil {
		return refusal
	}
	return nil
}
