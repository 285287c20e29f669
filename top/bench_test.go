package top

import (
	"os"
	"testing"
	"time"

	"github.com/gdamore/tcell/v2"

	"github.com/dblock-dev/dblock/internal/cli"
)

func BenchmarkDraw(b *testing.B) {
	screen := tcell.NewSimulationScreen("UTF-8")
	_ = screen.Init()
	screen.SetSize(80, 24)
	a := &app{screen: screen, utf8: true}
	e := &eye{view: view{name: "x", Database: cli.Database{DB: os.Getenv("BENCH_DB")}, past: &past{keep: 100}}, bell: newBell()}
	e.look()
	a.model.open(pageOne)
	a.model.take(&e.view)
	for b.Loop() {
		a.draw()
	}
}

func BenchmarkLook(b *testing.B) {
	e := &eye{view: view{name: "x", Database: cli.Database{DB: os.Getenv("BENCH_DB")}, past: &past{keep: 100}}, bell: newBell()}
	for b.Loop() {
		e.look()
		time.Sleep(0)
	}
}
