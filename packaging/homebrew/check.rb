# usage: ruby check.rb FORMULA RELEASE DIRECTORY
#
# Does with a formula what Homebrew does with it, as far as ours goes: for each system, the
# checksum is the one of the archive in the directory RELEASE; for Linux on x86, the archive
# is installed into DIRECTORY, and the formula's own test is run.

require "digest"
require "fileutils"
require "pathname"

class Place < Pathname
  def install(*names)
    mkpath
    names.flatten.each { |name| FileUtils.mv(name, self) }
  end
end

class Formula
  # The system and the processor that it is read for, and what it has for them.
  Target = Struct.new(:system, :processor, :url, :sha256, :version, :test)

  class << self
    attr_accessor :target

    def inherited(made)
      super
      made.target = target
    end

    def desc(*) = nil
    def homepage(*) = nil
    def license(*) = nil
    def version(text = nil) = target.version = text || target.version
    def on_macos = target.system == :macos && yield
    def on_linux = target.system == :linux && yield
    def on_arm = target.processor == :arm && yield
    def on_intel = target.processor == :intel && yield
    def url(text) = target.url = text
    def sha256(text) = target.sha256 = text
    def test(&block) = target.test = block
  end

  def initialize(to) = @to = to
  def prefix = Place.new(@to)
  def bin = Place.new(File.join(@to, "bin"))
  def version = self.class.version

  def shell_output(command)
    out = `#{command}`
    raise "#{command}: #{$?}" unless $?.success?
    out
  end

  def assert_match(want, got) = got.include?(want) || raise("#{got.inspect} has no #{want.inspect}")
  def assert_equal(want, got) = got == want || raise("#{got.inspect} is not #{want.inspect}")
end

formula, release, to = ARGV.map { |path| File.expand_path(path) }
[%i[macos arm], %i[macos intel], %i[linux arm], %i[linux intel]].each do |system, processor|
  target = Formula.target = Formula::Target.new(system, processor)
  Object.send(:remove_const, :Dblock) if defined?(Dblock)
  load formula
  archive = File.join(release, File.basename(target.url))
  unless Digest::SHA256.file(archive).hexdigest == target.sha256
    abort "check.rb: #{archive} has another checksum than the formula"
  end
  puts "#{system} #{processor}: #{File.basename(archive)}"
  next unless [system, processor] == %i[linux intel]

  FileUtils.mkpath(to)
  Dir.chdir(to) do
    raise "tar failed" unless Kernel.system("tar", "-xzf", archive)
    Dir.chdir(File.basename(archive, ".tar.gz")) { Dblock.new(to).install }
    Dblock.new(to).instance_eval(&target.test)
  end
end
