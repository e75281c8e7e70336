"""The OVF descriptor by which VirtualBox imports a virtual machine with one disk.

The format is DMTF's DSP0243 (OVF 1.x); the resource types are those of CIM
(CIM_ResourceAllocationSettingData.ResourceType).
"""

from __future__ import annotations

from xml.sax.saxutils import escape, quoteattr

CPU, MEMORY, ETHERNET, DISK, SATA = 3, 4, 10, 17, 20
MIB = 2**20
VMDK = "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"


def render_descriptor(name: str, disk: str, size: int, capacity: int) -> str:
    """The text of ``box.ovf``.

    Args:
        disk: the file name of the VMDK, in the folder of the descriptor.
        size: of that file, in bytes.
        capacity: of the virtual disk, in MiB.
    """
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
        ovf:format="{VMDK}"/>
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
      <vbox:OSType ovf:required="false">Debian_64</vbox:OSType>
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
{_item(3, SATA, "SATA", Address="0", ResourceSubType="AHCI")}
{_item(4, DISK, "disk", AddressOnParent="0", HostResource="/disk/disk1", Parent="3")}
{
        _item(
            5,
            ETHERNET,
            "first network adapter",
            AutomaticAllocation="true",
            Connection="NAT",
            ResourceSubType="E1000",
        )
    }
    </VirtualHardwareSection>
  </VirtualSystem>
</Envelope>
"""


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
