//go:build !(linux && (amd64 || arm64))

package test

func filtered() {}
