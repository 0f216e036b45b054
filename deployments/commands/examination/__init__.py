"""What ``mammo doctor`` looks at, by what it is: the machine, the files, other systems, the course of the service."""
