# The formula, from the archives of a release. formula.sh puts its version and checksums in.
class Dblock < Formula
  desc "Run a command while holding a database's lock"
  homepage "https://github.com/dblock-dev/dblock"
  version "VERSION"
  license "MIT"

  on_macos do
    on_arm do
      url "https://github.com/dblock-dev/dblock/releases/download/v#{version}/dblock_#{version}_darwin_arm64.tar.gz"
      sha256 "SHA256 darwin_arm64"
    end
    on_intel do
      url "https://github.com/dblock-dev/dblock/releases/download/v#{version}/dblock_#{version}_darwin_amd64.tar.gz"
      sha256 "SHA256 darwin_amd64"
    end
  end

  on_linux do
    on_arm do
      url "https://github.com/dblock-dev/dblock/releases/download/v#{version}/dblock_#{version}_linux_arm64.tar.gz"
      sha256 "SHA256 linux_arm64"
    end
    on_intel do
      url "https://github.com/dblock-dev/dblock/releases/download/v#{version}/dblock_#{version}_linux_amd64.tar.gz"
      sha256 "SHA256 linux_amd64"
    end
  end

  def install
    bin.install Dir["dblock*"]
    # Laid out as Homebrew's own: man, zsh/site-functions, fish/vendor_completions.d.
    prefix.install "share"
  end

  test do
    assert_match version.to_s, shell_output("#{bin}/dblock --version")
    assert_equal "it works\n", shell_output("#{bin}/dblock -d app.db -- echo it works")
  end
end
