module github.com/sluice-dev/sluice/tools

go 1.25
