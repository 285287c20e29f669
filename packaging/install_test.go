// Package packaging tries install.sh, with releases that a server here has, with and without
// a checkout. What packages hold is looked at by check.sh.
package packaging

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// release is what a server has: content by path. A nil content is a connection that breaks
// off in the middle.
type release struct {
	files map[string][]byte
	url   string

	mu    sync.Mutex
	asked []string
}

const (
	list    = "/v0.1.0/checksums.txt"
	archive = "/v0.1.0/dblock_0.1.0_linux_amd64.tar.gz"
)

// What there is in an archive.
var (
	programs = []string{"dblock", "dblock-stats", "dblock-top", "dblock-remote", "dblock-remote-etcd"}
	shared   = []string{
		"man/man1/dblock.1", "man/man5/dblock-protocol.5", "man/man7/dblock-session.7",
		"bash-completion/completions/dblock", "zsh/site-functions/_dblock", "fish/vendor_completions.d/dblock.fish",
	}
)

func newRelease(t *testing.T) *release {
	t.Helper()
	r := &release{files: map[string][]byte{}}
	for _, system := range []string{"linux_amd64", "linux_arm64", "linux_armv7", "linux_riscv64", "darwin_amd64", "darwin_arm64", "freebsd_amd64"} {
		name := "dblock_0.1.0_" + system
		members := map[string]string{"share/doc/dblock/README.md": "read me"}
		for _, p := range programs {
			members[p] = "#!/bin/sh\necho " + p + " 0.1.0 " + system + "\n"
		}
		for _, s := range shared {
			members["share/"+s] = s
		}
		r.files["/v0.1.0/"+name+".tar.gz"] = pack(t, name, members)
	}
	r.list()
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	r.url = server.URL
	return r
}

func pack(t *testing.T, dir string, members map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for name, content := range members {
		require.NoError(t, w.WriteHeader(&tar.Header{Name: dir + "/" + name, Mode: 0o644, Size: int64(len(content))}))
		_, err := w.Write([]byte(content))
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	require.NoError(t, z.Close())
	return b.Bytes()
}

// list makes the list of checksums of what there is now.
func (r *release) list() {
	var b strings.Builder
	for path, content := range r.files {
		if path != list && path != "/latest/checksums.txt" {
			fmt.Fprintf(&b, "%x  %s\n", sha256.Sum256(content), filepath.Base(path))
		}
	}
	r.files[list] = []byte(b.String())
	r.files["/latest/checksums.txt"] = []byte(b.String())
}

// change changes what the server has.
func (r *release) change(by func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	by()
}

func (r *release) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked = append(r.asked, req.URL.Path)
	content, ok := r.files[req.URL.Path]
	switch {
	case !ok:
		http.NotFound(w, req)
	case content == nil:
		w.Header().Set("Content-Length", "100000")
		_, _ = w.Write(bytes.Repeat([]byte("x"), 500))
	default:
		_, _ = w.Write(content)
	}
}

// A user has a shell, a directory of tools, and a home that nothing but install.sh writes to.
type user struct {
	t       *testing.T
	shell   []string
	tools   string
	home    string
	dir     string
	env     []string
	piped   bool
	program string // install.sh of the checkout, or of none
}

// What install.sh needs of a system besides a downloader and something for checksums.
const tools = "basename cat chmod cp date dirname git grep gzip id mkdir mktemp mv pwd rm sed sh tail tar touch"

func newUser(t *testing.T, r *release, with string) *user {
	t.Helper()
	u := &user{t: t, shell: []string{"sh"}, tools: t.TempDir(), home: t.TempDir(), dir: t.TempDir()}
	u.env = []string{"HOME=" + u.home, "PATH=" + u.tools, "DBLOCK_BASE_URL=" + r.url, "LC_ALL=C.UTF-8"}
	for _, tool := range strings.Fields(tools + " " + with) {
		u.tool(tool)
	}
	u.system("Linux", "x86_64")
	u.program = filepath.Join(u.dir, "install.sh")
	script, err := os.ReadFile("../install.sh")
	require.NoError(t, err)
	executable(t, u.program, script)
	return u
}

// tool gives the user a program of this machine, which must have it in CI.
func (u *user) tool(name string) {
	path, err := exec.LookPath(name)
	if err != nil && os.Getenv("CI") == "" {
		u.t.Skipf("there is no %s here", name)
	}
	require.NoError(u.t, err)
	require.NoError(u.t, os.Symlink(path, filepath.Join(u.tools, name)))
}

// script gives the user a program of the test's.
func (u *user) script(name, body string) {
	path := filepath.Join(u.tools, name)
	_ = os.Remove(path)
	executable(u.t, path, []byte("#!/bin/sh\n"+body+"\n"))
}

func (u *user) system(name, processor string) {
	u.script("uname", fmt.Sprintf("case $1 in -s) echo %s ;; -m) echo %s ;; esac", name, processor))
}

// executable writes a program while no other test can fork: a child that inherits
// the open file would keep the kernel from running it (ETXTBSY).
func executable(t *testing.T, path string, content []byte) {
	t.Helper()
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	require.NoError(t, os.WriteFile(path, content, 0o755))
}

// run runs install.sh and returns what it said and its exit code.
func (u *user) run(args ...string) (stdout, stderr string, code int) {
	u.t.Helper()
	argv := slices.Clone(u.shell)
	if u.piped {
		argv = append(argv, "-s", "--")
	} else {
		argv = append(argv, u.program)
	}
	argv = append(argv, args...)
	path, err := exec.LookPath(argv[0])
	if err != nil && os.Getenv("CI") == "" {
		u.t.Skipf("there is no %s here", argv[0])
	}
	require.NoError(u.t, err)
	cmd := exec.Command(path, argv[1:]...)
	cmd.Args[0] = argv[0]
	cmd.Env, cmd.Dir = u.env, u.dir
	if u.piped {
		f, err := os.Open(u.program)
		require.NoError(u.t, err)
		defer f.Close()
		cmd.Stdin = f
	}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.WaitDelay = time.Minute
	_ = cmd.Run()
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// files are all in the user's home.
func (u *user) files() (all []string) {
	u.t.Helper()
	require.NoError(u.t, filepath.WalkDir(u.home, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			all = append(all, strings.TrimPrefix(path, u.home+"/.local/"))
		}
		return err
	}))
	return all
}

// installed requires all files of the release, for one system.
func (u *user) installed(system string) {
	u.t.Helper()
	var want []string
	for _, p := range programs {
		want = append(want, "bin/"+p)
	}
	for _, s := range shared {
		want = append(want, "share/"+s)
	}
	require.ElementsMatch(u.t, want, u.files())
	out, err := exec.Command(filepath.Join(u.home, ".local/bin/dblock")).Output()
	require.NoError(u.t, err)
	require.Equal(u.t, "dblock 0.1.0 "+system+"\n", string(out))
}

// checkout makes a checkout around install.sh, with a Go that builds what says so.
func (u *user) checkout() {
	u.t.Helper()
	for _, name := range []string{
		"go.mod", "LICENSE", "NOTICES", "README.md", "CHANGELOG.md", "docs/dblock.1", "internal/version/version.go", "packaging/share.sh",
	} {
		b, err := os.ReadFile("../" + name)
		require.NoError(u.t, err)
		path := filepath.Join(u.dir, name)
		require.NoError(u.t, os.MkdirAll(filepath.Dir(path), 0o755))
		executable(u.t, path, b)
	}
	u.script("go", `case "$*" in
"env GOVERSION") echo go1.99.0 ;;
env*) echo ;;
build*)
	while [ "$1" != -o ]; do shift; done
	printf '#!/bin/sh\necho built here\n' >"$2" ;;
esac`)
}

func TestInstallsARelease(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, shell, with string
		piped             bool
		args              []string
	}{
		{name: "with curl", shell: "sh", with: "curl sha256sum", args: []string{"--version", "v0.1.0"}},
		{name: "with wget", shell: "dash", with: "wget sha256sum", args: []string{"--version", "0.1.0"}},
		{name: "in bash", shell: "bash", with: "curl openssl", args: []string{"--version", "latest"}},
		{name: "in busybox", shell: "busybox sh", with: "curl sha256sum", args: []string{"--version", "v0.1.0"}},
		{name: "with shasum", shell: "sh", with: "curl shasum perl", args: []string{"--version", "v0.1.0"}},
		{name: "piped", shell: "sh", with: "curl sha256sum", piped: true, args: []string{"--version", "v0.1.0"}},
		{name: "piped, the latest", shell: "dash", with: "curl sha256sum", piped: true},
		{name: "piped into bash", shell: "bash", with: "curl sha256sum", piped: true},
		{name: "piped into busybox", shell: "busybox sh", with: "wget sha256sum", piped: true},
		{name: "no checkout around it", shell: "sh", with: "curl sha256sum"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRelease(t)
			u := newUser(t, r, c.with)
			u.shell, u.piped = strings.Fields(c.shell), c.piped
			if c.piped {
				u.checkout() // which is not what was meant
			}
			stdout, stderr, code := u.run(c.args...)
			require.Zero(t, code, "%s%s", stdout, stderr)
			require.Empty(t, stderr)
			u.installed("linux_amd64")
			require.Equal(t, len(programs)+len(shared), strings.Count(stdout, "installed "), stdout)
			require.Contains(t, stdout, "is not in your PATH")

			stdout, stderr, code = u.run("--uninstall")
			require.Zero(t, code, "%s%s", stdout, stderr)
			require.Empty(t, u.files())
			stdout, _, _ = u.run("--uninstall")
			require.Contains(t, stdout, "not installed")
		})
	}
}

// busybox and FreeBSD have downloaders of their own.
func TestInstallsByOtherDownloaders(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{
		"wget":  `exec busybox wget "$@"`,
		"fetch": `[ "$1 $2 $3 $4" = "-q -T 60 -o" ] && exec curl -fsS -o "$5" "$6"`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRelease(t)
			u := newUser(t, r, "")
			hidden := t.TempDir()
			for _, tool := range []string{"busybox", "curl"} {
				path, err := exec.LookPath(tool)
				if err != nil && os.Getenv("CI") == "" {
					t.Skipf("there is no %s here", tool)
				}
				require.NoError(t, err)
				require.NoError(t, os.Symlink(path, filepath.Join(hidden, tool)))
			}
			u.script(name, "PATH="+hidden+"\n"+body)
			u.script("sha256", `[ "$*" = -q ] && exec `+u.look("sha256sum"))
			stdout, stderr, code := u.run("--version", "v0.1.0")
			require.Zero(t, code, "%s%s", stdout, stderr)
			u.installed("linux_amd64")

			r.change(func() { r.files[archive] = nil })
			_, stderr, code = u.run("--version", "v0.1.0")
			require.Equal(t, 1, code)
			require.Contains(t, stderr, "cannot download")
		})
	}
}

func (u *user) look(name string) string {
	path, err := exec.LookPath(name)
	require.NoError(u.t, err)
	return path
}

func TestInstallsForTheSystem(t *testing.T) {
	t.Parallel()
	for _, c := range [][3]string{
		{"Linux", "x86_64", "linux_amd64"},
		{"Linux", "aarch64", "linux_arm64"},
		{"Linux", "armv7l", "linux_armv7"},
		{"Linux", "armv8l", "linux_armv7"},
		{"Linux", "riscv64", "linux_riscv64"},
		{"Darwin", "x86_64", "darwin_amd64"},
		{"Darwin", "arm64", "darwin_arm64"},
		{"FreeBSD", "amd64", "freebsd_amd64"},
	} {
		u := newUser(t, newRelease(t), "curl sha256sum")
		u.system(c[0], c[1])
		stdout, stderr, code := u.run("--version", "v0.1.0")
		require.Zero(t, code, "%s%s", stdout, stderr)
		u.installed(c[2])
	}
}

// What is wrong is refused: what was installed before is as it was, and nothing else is there.
func TestRefusesARelease(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		version string
		spoil   func(*release, *user)
		want    string
	}{
		{name: "a damaged archive", spoil: func(r *release, _ *user) {
			r.files[archive] = slices.Clone(r.files[archive])
			r.files[archive][100] ^= 1
		}, want: "is not what its checksum says"},
		{name: "another archive", spoil: func(r *release, _ *user) {
			r.files[archive] = r.files["/v0.1.0/dblock_0.1.0_linux_arm64.tar.gz"]
		}, want: "is not what its checksum says"},
		{name: "no archive", spoil: func(r *release, _ *user) { delete(r.files, archive) }, want: "cannot download"},
		{name: "a cut archive", spoil: func(r *release, _ *user) { r.files[archive] = nil }, want: "cannot download"},
		{name: "a cut list", spoil: func(r *release, _ *user) { r.files[list] = nil }, want: "cannot download"},
		{name: "a page for a list", spoil: func(r *release, _ *user) {
			r.files[list] = []byte("<html>\n<p>Log in to the network</p>\n")
		}, want: "is not a list of checksums"},
		{name: "an empty list", spoil: func(r *release, _ *user) { r.files[list] = []byte{} }, want: "is not a list of checksums"},
		{name: "a list with a short checksum", spoil: func(r *release, _ *user) {
			r.files[list] = []byte("abc  " + filepath.Base(archive) + "\n")
		}, want: "is not a list of checksums"},
		{name: "two archives", spoil: func(r *release, _ *user) { r.files[list] = append(r.files[list], r.files[list]...) }, want: "is not a list of checksums"},
		{name: "no such release", version: "v0.9.0", spoil: func(*release, *user) {}, want: "there is no release 0.9.0"},
		{name: "no version", version: "../0.1.0", spoil: func(*release, *user) {}, want: "this is not a version of dblock"},
		{name: "a system without one", spoil: func(_ *release, u *user) { u.system("Linux", "s390x") }, want: "there are no releases for Linux on s390x"},
		{name: "a release without this system", spoil: func(r *release, _ *user) {
			delete(r.files, archive)
			r.list()
		}, want: "has no archive for linux_amd64"},
		{name: "no network", spoil: func(_ *release, u *user) {
			u.env = append(u.env, "DBLOCK_BASE_URL=http://127.0.0.1:1/download")
		}, want: "cannot reach http://127.0.0.1:1/download/v0.1.0"},
		{name: "no dblock in it", spoil: func(r *release, u *user) {
			name := strings.TrimSuffix(filepath.Base(archive), ".tar.gz")
			r.files[archive] = pack(u.t, name, map[string]string{"README.md": ""})
			r.list()
		}, want: "there is no dblock in"},
		{name: "no archive after all", spoil: func(r *release, _ *user) {
			r.files[archive] = []byte("this is not gzip")
			r.list()
		}, want: "cannot unpack"},
		{name: "nothing for checksums", spoil: func(_ *release, u *user) {
			_ = os.Remove(filepath.Join(u.tools, "sha256sum"))
		}, want: "nothing here can compute a SHA-256 checksum"},
		{name: "a directory in the way", spoil: func(_ *release, u *user) {
			_ = os.MkdirAll(filepath.Join(u.home, ".local/share/zsh/site-functions/_dblock"), 0o755)
		}, want: "a directory has this name"},
	} {
		for _, downloader := range []string{"curl", "wget"} {
			t.Run(c.name+" "+downloader, func(t *testing.T) {
				t.Parallel()
				r := newRelease(t)
				u := newUser(t, r, downloader+" sha256sum")
				old := filepath.Join(u.home, ".local/bin/dblock")
				require.NoError(t, os.MkdirAll(filepath.Dir(old), 0o755))
				executable(t, old, []byte("old"))
				r.change(func() { c.spoil(r, u) })
				version := c.version
				if version == "" {
					version = "v0.1.0"
				}
				temporary := t.TempDir()
				u.env = append(u.env, "TMPDIR="+temporary)
				_, stderr, code := u.run("--version", version)
				require.Equal(t, 1, code, stderr)
				require.Contains(t, stderr, c.want)
				lines := strings.Split(strings.TrimSpace(stderr), "\n")
				if c.name == "no archive after all" {
					lines = lines[len(lines)-2:] // after what tar has to say about it
				}
				require.Len(t, lines, 2, stderr)
				require.True(t, strings.HasPrefix(lines[0], "install.sh: "), stderr)
				require.True(t, strings.HasPrefix(lines[1], "hint: "), stderr)
				require.Equal(t, []string{"bin/dblock"}, u.files())
				content, err := os.ReadFile(old)
				require.NoError(t, err)
				require.Equal(t, "old", string(content))
				left, err := os.ReadDir(temporary)
				require.NoError(t, err)
				require.Empty(t, left)
			})
		}
	}
}

// In a checkout there is something to build where there is no release, and nothing else is
// reason enough.
func TestBuildsInstead(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		spoil  func(*release, *user)
		builds bool
	}{
		{"no network", func(_ *release, u *user) { u.env = append(u.env, "DBLOCK_BASE_URL=http://127.0.0.1:1") }, true},
		{"no downloader", func(_ *release, u *user) { _ = os.Remove(filepath.Join(u.tools, "curl")) }, true},
		{"a system without one", func(_ *release, u *user) { u.system("SunOS", "i86pc") }, true},
		{"a release without this system", func(r *release, _ *user) {
			delete(r.files, archive)
			r.list()
		}, true},
		{"a damaged archive", func(r *release, _ *user) { r.files[archive] = []byte("damaged") }, false},
		{"a cut archive", func(r *release, _ *user) { r.files[archive] = nil }, false},
		{"a cut list", func(r *release, _ *user) { r.files[list] = nil }, false},
		{"no such release", func(r *release, _ *user) { delete(r.files, list) }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRelease(t)
			u := newUser(t, r, "curl sha256sum")
			u.checkout()
			r.change(func() { c.spoil(r, u) })
			stdout, stderr, code := u.run("--version", "v0.1.0")
			if !c.builds {
				require.Equal(t, 1, code, "%s%s", stdout, stderr)
				require.Empty(t, u.files())
				return
			}
			require.Zero(t, code, "%s%s", stdout, stderr)
			require.Contains(t, stdout, "building this checkout instead of release 0.1.0")
			require.Subset(t, u.files(), []string{"bin/dblock", "bin/dblock-stats", "bin/dblock-top", "share/man/man1/dblock.1"})
			page, err := os.ReadFile(filepath.Join(u.home, ".local/share/man/man1/dblock.1"))
			require.NoError(t, err)
			require.Regexp(t, `(?m)^\.TH DBLOCK 1 \S+ "dblock \d+\.\d+\.\d+-dev" "User Commands"$`, string(page))
		})
	}
}

// A checkout without --version is built: no server is asked.
func TestBuildsACheckout(t *testing.T) {
	t.Parallel()
	r := newRelease(t)
	u := newUser(t, r, "")
	u.checkout()
	u.env = append(u.env, "DESTDIR=a root", "PREFIX=/usr")
	stdout, stderr, code := u.run()
	require.Zero(t, code, "%s%s", stdout, stderr)
	out, err := exec.Command(filepath.Join(u.dir, "a root/usr/bin/dblock")).Output()
	require.NoError(t, err)
	require.Equal(t, "built here\n", string(out))
	require.Empty(t, r.asked)
	require.Empty(t, u.files())
}

// A script that arrives cut off does nothing.
func TestACutScriptDoesNothing(t *testing.T) {
	t.Parallel()
	r := newRelease(t)
	u := newUser(t, r, "curl sha256sum")
	u.piped = true
	script, err := os.ReadFile(u.program)
	require.NoError(t, err)
	script = bytes.TrimSpace(script)
	var ends []int
	for end := len(script) - 16; end < len(script); end++ {
		ends = append(ends, end)
	}
	for end := 100; end < len(script); end += len(script) / 20 {
		ends = append(ends, end)
	}
	for _, end := range ends {
		executable(t, u.program, script[:end])
		stdout, _, _ := u.run("--version", "v0.1.0")
		require.Empty(t, stdout, "cut after %q", script[max(0, end-20):end])
		require.Empty(t, u.files())
	}
	require.Empty(t, r.asked)
}

// What is wrong in the command line is told with the usage.
func TestRefusesArguments(t *testing.T) {
	t.Parallel()
	u := newUser(t, newRelease(t), "curl sha256sum")
	for _, args := range [][]string{{"--version"}, {"--build"}, {"--nonsense"}, {"v0.1.0"}} {
		_, stderr, code := u.run(args...)
		require.Equal(t, 64, code, args)
		require.Contains(t, stderr, "usage: ./install.sh")
	}
	stdout, _, code := u.run("--help")
	require.Zero(t, code)
	require.Contains(t, stdout, "--version VERSION")
}

// install.sh removes what it does not see: it has lists of what there may be.
func TestInstallKnowsAllFiles(t *testing.T) {
	t.Parallel()
	script, err := os.ReadFile("../install.sh")
	require.NoError(t, err)
	have := func(name string) []string {
		m := regexp.MustCompile(`(?m)^` + name + `='([^']*)'$`).FindSubmatch(script)
		require.NotNil(t, m, name)
		return strings.Fields(string(m[1]))
	}
	want := []string{"dblock"}
	for _, dir := range []string{"../cmd/*", "../remote/cmd/*"} {
		companions, err := filepath.Glob(dir)
		require.NoError(t, err)
		for _, c := range companions {
			want = append(want, filepath.Base(c))
		}
	}
	require.Equal(t, want, have("programs"))
	require.Equal(t, want, programs)
	require.Equal(t, shared, have("shared"))

	dir := t.TempDir()
	out, err := exec.Command("sh", "share.sh", dir).CombinedOutput()
	require.NoError(t, err, "%s", out)
	var there []string
	require.NoError(t, filepath.WalkDir(dir+"/share", func(path string, d os.DirEntry, err error) error {
		if name := strings.TrimPrefix(path, dir+"/share/"); !d.IsDir() && !strings.HasPrefix(name, "doc/") {
			there = append(there, name)
		}
		return err
	}))
	require.NotEmpty(t, there)
	require.Subset(t, shared, there)
}

// NOTICES has the licenses of all that is linked into the programs.
func TestNotices(t *testing.T) {
	t.Parallel()
	printed, err := exec.Command("sh", "notices.sh").Output()
	require.NoError(t, err)
	kept, err := os.ReadFile(filepath.Join("..", "NOTICES"))
	require.NoError(t, err)
	require.Equal(t, string(kept), string(printed), "packaging/notices.sh >NOTICES")
}

// Whoever builds dblock links it in the same way.
func TestFlagsAgree(t *testing.T) {
	t.Parallel()
	script, err := os.ReadFile("../install.sh")
	require.NoError(t, err)
	flags := regexp.MustCompile(`(?m)^\s*ldflags="(?:\$ldflags )?(.*)"$`).FindAllSubmatch(script, -1)
	require.Len(t, flags, 3)
	for _, name := range []string{"../.goreleaser.yaml", "nix/default.nix"} {
		content, err := os.ReadFile(name)
		require.NoError(t, err)
		for _, flag := range flags {
			require.Contains(t, string(content), string(flag[1]), name)
		}
	}
}
