"""The seven hosts on one machine: network namespaces, made and removed by itself.

``make topology`` (root, Linux) builds the original's network, installs every host by following
docs/deployment.md, and keeps it up until Ctrl-C. It is tooling to try the deployment, not part of
a deployment, and so lies beside the files that it tries.

Everything is inside one private world (mount, network, process, host-name namespaces) whose first
process the kernel ends with the runner, kill -9 included: no process, mount, address or file of it
outlives that, and none is ever visible in the machine's own network. Start reading at ``world``,
then ``network`` (addresses, from firewall/policy.toml), ``walk`` (the document, followed) and
``bin/systemctl`` (what starts the units of deploy/seven-hosts/units).

Imports the standard library and :mod:`medportal.firewall` only.
"""
