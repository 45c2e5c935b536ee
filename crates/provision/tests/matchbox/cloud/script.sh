#!/bin/sh
echo {{.who}}
