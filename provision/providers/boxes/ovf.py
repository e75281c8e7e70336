"""The OVF descriptor by which VirtualBox imports a virtual machine with one disk.

The format is DMTF's DSP0243 (OVF 1.x); the resource types are those of CIM
(CIM_ResourceAllocationSettingData.ResourceType).
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

CPU, MEMORY, ETHERNET, DISK, STORAGE = 3, 4, 10, 17, 20
MIB = 2**20
VMDK = "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"


@dataclass(frozen=True)
class Hardware:
    """What VirtualBox emulates for an architecture.

    Args:
        os_type: VirtualBox's identifier of the guest's operating system.
        bus: the name of the disk's controller.
        controller: of the disk, as OVF's resource subtype.
        adapter: of the network, likewise.
        settings: whether VirtualBox's own settings are needed: without them, VirtualBox 7.2 refuses
            to import a machine for ARM (VBOX_E_PLATFORM_ARCH_NOT_SUPPORTED).
    """

    os_type: str
    bus: str
    controller: str
    adapter: str
    settings: bool = False


HARDWARE = {
    "amd64": Hardware("Debian_64", "SATA", "AHCI", "E1000"),
    "arm64": Hardware("Debian_arm64", "VirtIO", "VirtioSCSI", "VirtioNet", settings=True),
}


def render_descriptor(
    name: str, disk: str, size: int, capacity: int, architecture: str = "amd64"
) -> str:
    """The text of ``box.ovf``.

    Args:
        architecture: Debian's name.
        disk: the file name of the VMDK, in the folder of the descriptor.
        size: of that file, in bytes.
        capacity: of the virtual disk, in MiB.
    """
    hardware = HARDWARE[architecture]
    image = uuid.uuid5(uuid.NAMESPACE_OID, f"{disk} {size} {capacity}")
    settings = _settings(name, hardware, image) if hardware.settings else ""
    return f"""\
<?xml version="1.0"?>
<Envelope ovf:version="1.0" xml:lang="en-US" xmlns="http://schemas.dmtf.org/ovf/envelope/1"
    xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1"
    xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData"
    xmlns:vssd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData"
    xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
    xmlns:vbox="http://www.virtualbox.org/ovf/machine">
  <References>
    <File ovf:id="file1" ovf:href={quoteattr(disk)} ovf:size="{size}"/>
  </References>
  <DiskSection>
    <Info>Virtual disk</Info>
    <Disk ovf:capacity="{capacity * MIB}" ovf:diskId="disk1" ovf:fileRef="file1"
        ovf:format="{VMDK}" vbox:uuid="{image}"/>
  </DiskSection>
  <NetworkSection>
    <Info>Network for Vagrant's SSH connections</Info>
    <Network ovf:name="NAT"><Description>NAT</Description></Network>
  </NetworkSection>
  <VirtualSystem ovf:id={quoteattr(name)}>
    <Info>Debian 13</Info>
    <OperatingSystemSection ovf:id="96">
      <Info>Guest operating system</Info>
      <Description>Debian_64</Description>
      <vbox:OSType ovf:required="false">{hardware.os_type}</vbox:OSType>
    </OperatingSystemSection>
    <VirtualHardwareSection>
      <Info>Virtual hardware</Info>
      <System>
        <vssd:ElementName>Virtual Hardware Family</vssd:ElementName>
        <vssd:InstanceID>0</vssd:InstanceID>
        <vssd:VirtualSystemIdentifier>{escape(name)}</vssd:VirtualSystemIdentifier>
        <vssd:VirtualSystemType>virtualbox-2.2</vssd:VirtualSystemType>
      </System>
{_item(1, CPU, "1 processor", VirtualQuantity="1")}
{_item(2, MEMORY, "1024 MiB", AllocationUnits="MegaBytes", VirtualQuantity="1024")}
{_item(3, STORAGE, hardware.bus, Address="0", ResourceSubType=hardware.controller)}
{_item(4, DISK, "disk", AddressOnParent="0", HostResource="/disk/disk1", Parent="3")}
{
        _item(
            5,
            ETHERNET,
            "first network adapter",
            AutomaticAllocation="true",
            Connection="NAT",
            ResourceSubType=hardware.adapter,
        )
    }
    </VirtualHardwareSection>{settings}
  </VirtualSystem>
</Envelope>
"""


def _settings(name: str, hardware: Hardware, image: uuid.UUID) -> str:
    """The machine in the format of VirtualBox' own settings, version 1.20 (VirtualBox 7.1).

    Args:
        image: of the disk, which refers to its ``vbox:uuid``.
    """
    machine = uuid.uuid5(image, name)
    return f"""
    <vbox:Machine ovf:required="false" version="1.20-linux" uuid="{{{machine}}}"
        name={quoteattr(name)} OSType="{hardware.os_type}" snapshotFolder="Snapshots">
      <ovf:Info>The same for VirtualBox</ovf:Info>
      <Hardware>
        <Memory RAMSize="1024"/>
        <Firmware type="EFI"/>
        <Display controller="QemuRamFB" VRAMSize="16"/>
        <Network>
          <Adapter slot="0" enabled="true" type="virtio"><NAT/></Adapter>
        </Network>
        <StorageControllers>
          <StorageController name="{hardware.bus}" type="{hardware.controller}" PortCount="1"
              Bootable="true">
            <AttachedDevice type="HardDisk" port="0" device="0">
              <Image uuid="{{{image}}}"/>
            </AttachedDevice>
          </StorageController>
        </StorageControllers>
      </Hardware>
      <Platform architecture="ARM">
        <RTC localOrUTC="UTC"/>
        <Chipset type="ARMv8Virtual"/>
        <CPU count="1"/>
        <arm><CPU/></arm>
      </Platform>
    </vbox:Machine>"""


def _item(number: int, kind: int, caption: str, **more: str) -> str:
    """One hardware item; the schema requires its elements in alphabetical order."""
    values = {
        "ElementName": caption,
        "InstanceID": str(number),
        "ResourceType": str(kind),
        **more,
    }
    lines = [f"        <rasd:{k}>{escape(v)}</rasd:{k}>" for k, v in sorted(values.items())]
    return "\n".join(["      <Item>", *lines, "      </Item>"])
