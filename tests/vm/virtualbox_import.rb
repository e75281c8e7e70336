# Does what Vagrant does with a box before it starts a machine, with Vagrant's own driver: the one for
# VirtualBox 7.0, from which later ones are derived. Prints the result as JSON.
# Run as: ruby virtualbox_import.rb OVF BASE-MAC, with VBoxManage in the path.
require "json"
require "log4r"
require "vagrant"

I18n.load_path << File.expand_path("templates/locales/en.yml", Vagrant.source_root)
require Vagrant.source_root.join("plugins/providers/virtualbox/plugin")

ovf, mac = ARGV
driver = ->(id) { VagrantPlugins::ProviderVirtualBox::Driver::Version_7_0.new(id) }

# A linked clone: the box is imported once, and machines are clones of a snapshot of it.
master = driver.(nil).import(ovf)
driver.(master).create_snapshot(master, "base")
id = driver.(master).clonevm(master, "base")

machine = driver.(id)
machine.set_mac_address(mac)
machine.set_name("lab_web-01")
machine.forward_ports([{ name: "ssh", protocol: "tcp", adapter: 1, hostip: "127.0.0.1", hostport: 2222, guestport: 22 }])
found = {
  "snapshots" => driver.(master).list_snapshots(master),
  "state" => machine.read_state,
  "mac" => machine.read_mac_address,
  "interfaces" => machine.read_network_interfaces,
  "forwarded" => machine.execute("showvminfo", id, "--machinereadable")[/^Forwarding\(0\)="(.*)"/, 1],
  "controllers" => machine.read_storage_controllers.map { |c| [c.name, c.type, c.attachments.map { |a| a[:port] }] },
  "machines" => machine.read_vms,
}
machine.delete
driver.(master).delete
found["left"] = driver.(nil).read_vms
puts JSON.pretty_generate(found)
