package main

import (
	"errors"
	"maps"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	sourcesv1 "knative.dev/eventing/pkg/apis/sources/v1"
	adapter "knative.dev/eventing/pkg/reconciler/apiserversource/resources"
	reconcilersource "knative.dev/eventing/pkg/reconciler/source"
	netcfg "knative.dev/networking/pkg/config"
	"knative.dev/pkg/logging"
	apiconfig "knative.dev/serving/pkg/apis/config"
	"knative.dev/serving/pkg/apis/serving"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
	autoscaling "knative.dev/serving/pkg/autoscaler/config"
	"knative.dev/serving/pkg/deployment"
	"knative.dev/serving/pkg/observability"
	revisionconfig "knative.dev/serving/pkg/reconciler/revision/config"
	revision "knative.dev/serving/pkg/reconciler/revision/resources"
)

// servicePod returns the function's pod as Knative Serving makes it, queue-proxy included, under Knative's default configuration.
func servicePod(service *servingv1.Service) (*corev1.Pod, error) {
	defaults, err1 := apiconfig.NewDefaultsConfigFromMap(nil)
	features, err2 := apiconfig.NewFeaturesConfigFromMap(nil)
	autoscaler, err3 := autoscaling.NewConfigFromMap(nil)
	log, err4 := logging.NewConfigFromMap(nil)
	network, err5 := netcfg.NewConfigFromMap(nil)
	deploy, err6 := deployment.NewConfigFromMap(map[string]string{deployment.QueueSidecarImageKey: "queue-proxy"})
	if err := errors.Join(err1, err2, err3, err4, err5, err6); err != nil {
		return nil, err
	}
	template := service.Spec.Template
	labels := map[string]string{serving.ServiceLabelKey: service.Name, serving.ConfigurationLabelKey: service.Name}
	maps.Copy(labels, template.Labels)
	made, err := revision.MakeDeployment(&servingv1.Revision{
		ObjectMeta: metav1.ObjectMeta{
			Name:        service.Name + "-00001",
			Namespace:   service.Namespace,
			Annotations: template.Annotations,
			Labels:      labels,
		},
		Spec: template.Spec,
	}, &revisionconfig.Config{
		Config:        &apiconfig.Config{Defaults: defaults, Features: features, Autoscaler: autoscaler},
		Deployment:    deploy,
		Logging:       log,
		Network:       network,
		Observability: observability.DefaultConfig(),
	})
	if err != nil {
		return nil, err
	}
	return pod(made), nil
}

// sourcePod returns the pod of the adapter that watches Events, as Knative Eventing makes it.
func sourcePod(source *sourcesv1.ApiServerSource) (*corev1.Pod, error) {
	source.UID = "0" // The API server's to give; the adapter's name ends in it.
	made, err := adapter.MakeReceiveAdapter(&adapter.ReceiveAdapterArgs{
		Image:         "apiserver-receive-adapter",
		Source:        source,
		Labels:        adapter.Labels(source.Name),
		SinkURI:       "http://saffire.saffire.svc.cluster.local",
		Configs:       &reconcilersource.EmptyVarsGenerator{},
		Namespaces:    []string{metav1.NamespaceAll},
		AllNamespaces: true,
	})
	if err != nil {
		return nil, err
	}
	return pod(made), nil
}

// pod returns the first pod a controller would make of the Deployment.
func pod(of *appsv1.Deployment) *corev1.Pod {
	made := &corev1.Pod{ObjectMeta: of.Spec.Template.ObjectMeta, Spec: of.Spec.Template.Spec}
	made.APIVersion, made.Kind = "v1", "Pod"
	made.Name, made.Namespace = of.Name, of.Namespace
	return made
}
