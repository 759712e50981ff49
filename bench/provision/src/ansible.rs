//! The same work by Ansible with as many forks as hosts: a folder, the program, the configuration from a template, a process
//! that is started once, and its port.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use crate::engine;
use crate::fleet::Map;
use crate::usage::{self, Cost};

/// Ansible, ready to play.
pub(crate) struct Ansible {
    program: PathBuf,
    dir: PathBuf,
}

impl Ansible {
    /// Writes inventory, template, playbook and configuration to `dir`.
    pub(crate) fn prepare(ansible: &Path, dir: &Path, map: &Map, payload: &Path, is_tuned: bool) -> Result<Self> {
        std::fs::create_dir_all(dir).context("make a folder")?;
        let mut inventory = String::from("[all]\n");
        for host in &map.hosts {
            inventory += &format!(
                "{} ansible_host=127.0.0.1 ansible_port={} root={} service_port={}\n",
                host.name,
                host.ssh_port,
                host.root.display(),
                host.service_port + 1
            );
        }
        // Named, for what Ansible finds by itself may be a stand-in that does not run; it saves it the search.
        inventory += &format!(
            "\n[all:vars]\nansible_python_interpreter=/usr/bin/python3\nansible_user={}\nansible_ssh_private_key_file={}\npayload={}\n\
             ansible_ssh_common_args=-o UserKnownHostsFile={} -o IdentitiesOnly=yes\n",
            map.user,
            map.identity.display(),
            payload.display(),
            map.known_hosts.display()
        );
        std::fs::write(dir.join("inventory"), inventory)?;
        let names = engine::TEMPLATE
            .replace("{{ name }}", "{{ inventory_hostname }}")
            .replace("{{ address }}", "127.0.0.1")
            .replace("{{ port }}", "{{ service_port }}");
        std::fs::write(dir.join("node.conf.j2"), names)?;
        let facts = if is_tuned { "false" } else { "true" };
        std::fs::write(dir.join("playbook.yml"), PLAYBOOK.replace("FACTS", facts))?;
        let tuned = if is_tuned { "\n[ssh_connection]\npipelining = True\n" } else { "" };
        let forks = map.hosts.len();
        std::fs::write(dir.join("ansible.cfg"), format!("[defaults]\nforks = {forks}\n{tuned}"))?;
        Ok(Self { program: ansible.to_path_buf(), dir: dir.to_path_buf() })
    }

    /// Plays it once.
    ///
    /// # Errors
    /// A task failed on a host; what Ansible printed is in its log.
    pub(crate) fn play(&self, what: &str) -> Result<Cost> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.dir.join("log"))?;
        let child = Command::new(&self.program)
            .args(["-i", "inventory", "playbook.yml"])
            .current_dir(&self.dir)
            .env("ANSIBLE_CONFIG", self.dir.join("ansible.cfg"))
            .env("ANSIBLE_HOME", self.dir.join("home"))
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("start ansible-playbook")?;
        let log = self.dir.join("log");
        usage::watch(child, what).with_context(|| std::fs::read_to_string(log).unwrap_or_default())
    }
}

const PLAYBOOK: &str = "---
- hosts: all
  gather_facts: FACTS
  tasks:
    - name: folder
      ansible.builtin.file:
        path: '{{ root }}'
        state: directory
        mode: '0755'
    - name: program
      ansible.builtin.copy:
        src: '{{ payload }}'
        dest: '{{ root }}/program'
        mode: '0755'
    - name: configuration
      ansible.builtin.template:
        src: node.conf.j2
        dest: '{{ root }}/node.conf'
        mode: '0600'
    - name: process
      ansible.builtin.shell:
        cmd: 'setsid ./program listen {{ service_port }} > log 2>&1 < /dev/null & echo $! > pid'
        chdir: '{{ root }}'
        creates: '{{ root }}/pid'
    - name: port
      ansible.builtin.wait_for:
        host: 127.0.0.1
        port: '{{ service_port }}'
        timeout: 30
";
