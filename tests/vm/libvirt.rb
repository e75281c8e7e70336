# Prints the libvirt configuration in a Vagrantfile as JSON, read through Vagrant itself. Run as:
# ruby libvirt.rb FOLDER
require "json"
require "log4r"
require "vagrant"
require "vagrant-libvirt"

env = Vagrant::Environment.new(cwd: ARGV.fetch(0), ui_class: Vagrant::UI::Silent)
machines = env.machine_names.map do |name|
  loaded = env.vagrantfile.machine_config(name, :libvirt, nil, nil, false)[:config]
  vm = loaded.vm.get_provider_config(:libvirt)
  {
    "name" => name.to_s,
    "box" => loaded.vm.box,
    "driver" => vm.driver,
    "machine_type" => vm.machine_type.to_s,
    "machine_arch" => vm.machine_arch.to_s,
    "loader" => vm.loader.to_s,
    "cpu_mode" => vm.cpu_mode,
    "cpu_model" => vm.cpu_model,
    "inputs" => vm.inputs.map { |input| input.transform_keys(&:to_s) },
  }
end
puts JSON.pretty_generate(machines)
