# A machine that installs itself from a kickstart, with terraform's matchbox provider against
# larder. Certificates: larder provision pki init --san matchbox.example.com
terraform {
  required_providers {
    matchbox = {
      source  = "poseidon/matchbox"
      version = "~> 0.5"
    }
  }
}

provider "matchbox" {
  endpoint    = "matchbox.example.com:8081"
  ca          = file("/etc/matchbox/ca.crt")
  client_cert = file("/etc/matchbox/client.crt")
  client_key  = file("/etc/matchbox/client.key")
}

variable "mirror" {
  description = "A tree on the accelerator, so that the installer's fetches are cached too"
  default     = "http://larder.example.com/centos-stream/9-stream/BaseOS/x86_64/os"
}

resource "matchbox_profile" "stream9" {
  name   = "stream9"
  kernel = "${var.mirror}/images/pxeboot/vmlinuz"
  initrd = ["${var.mirror}/images/pxeboot/initrd.img"]
  args = [
    "initrd=initrd.img",
    "console=ttyS0,115200",
    "inst.text",
    "inst.repo=${var.mirror}",
    "inst.ks=http://matchbox.example.com:8080/kickstart",
    "inst.ks.sendmac",
  ]
  generic_config = file("${path.module}/kickstart.cfg")
}

resource "matchbox_group" "node1" {
  name    = "node1"
  profile = matchbox_profile.stream9.name
  selector = {
    mac = "52:54:00:12:34:56"
  }
  metadata = {
    hostname     = "node1.example.com"
    mirror       = var.mirror
    install_once = "true"
  }
}
