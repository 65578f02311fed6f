package main

import (
	"os"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// render prints the objects that `kubectl apply -k` applies for the kustomization in folder.
func render(folder string) error {
	options := krusty.MakeDefaultOptions()
	options.Reorder = krusty.ReorderOptionLegacy // as kubectl does
	made, err := krusty.MakeKustomizer(options).Run(filesys.MakeFsOnDisk(), folder)
	if err != nil {
		return err
	}
	data, err := made.AsYaml()
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(data)
	return err
}
