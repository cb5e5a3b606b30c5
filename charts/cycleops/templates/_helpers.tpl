{{- define "cycleops.labels" -}}
app.kubernetes.io/name: cycleops
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "cycleops.selector" -}}
app.kubernetes.io/name: cycleops
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
