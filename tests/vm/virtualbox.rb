# Prints the VirtualBox configuration in a Vagrantfile as JSON. It is read through Vagrant itself,
# machine by machine, so the result is what Vagrant would use. Run as: ruby virtualbox.rb FOLDER
require "json"
require "log4r"
require "vagrant"

env = Vagrant::Environment.new(cwd: ARGV.fetch(0), ui_class: Vagrant::UI::Silent)
machines = env.machine_names.map do |name|
  # Neither a box nor VirtualBox is needed to read the configuration.
  provider, _ = Vagrant.plugin("2").manager.providers[:virtualbox]
  loaded = env.vagrantfile.machine_config(name, :virtualbox, nil, nil, false)[:config]
  vm = loaded.vm
  box = vm.get_provider_config(:virtualbox)
  {
    "name" => name.to_s,
    "hostname" => vm.hostname,
    "box" => vm.box,
    "box_version" => vm.box_version,
    "check_update" => vm.box_check_update,
    "networks" => vm.networks.select { |kind, _| kind == :private_network }.map { |_, o| o.slice(:ip, :netmask) },
    "synced_folders" => vm.synced_folders.map { |_, o| o[:disabled] ? "off" : "on" },
    "linked_clone" => box.linked_clone,
    "name_is_fixed" => !box.name.nil?,
    "guest_additions_checked" => box.check_guest_additions,
    "gui" => box.gui,
    "customize" => box.customizations.map { |when_, what| [when_, *what].map(&:to_s) },
  }
end
puts JSON.pretty_generate(machines)
